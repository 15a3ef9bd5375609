//! Writes of the registry: each change with its statistics, effects and what else must go with it.

use super::body::Wanted;
use super::record::{self, Device};
use super::statistics::Delta;
use super::{mismatch, not_found};
use crate::command::IfMatch;
use crate::decision::{CloseReason, PresenceChange};
use crate::{Context, Effect, Refused, View, WriteSet, c2d, keys, stored};
use types::{DeviceId, ErrorCode, Reject, limits};

/// The changes of one request to one device; nothing counts until the caller takes them over.
pub(super) struct Change<'a> {
    pub view: &'a dyn View,
    pub context: &'a Context<'a>,
    pub device: &'a DeviceId,
    pub writes: WriteSet,
    pub effects: Vec<Effect>,
    pub presence: Vec<PresenceChange>,
    pub delta: Delta,
}

impl<'a> Change<'a> {
    pub fn new(view: &'a dyn View, context: &'a Context<'a>, device: &'a DeviceId) -> Self {
        Change {
            view,
            context,
            device,
            writes: WriteSet::default(),
            effects: Vec::new(),
            presence: Vec::new(),
            delta: Delta::default(),
        }
    }

    pub fn load(&self) -> Result<Option<Device>, Refused> {
        Ok(record::load(self.view, self.device)?)
    }

    /// Registers the device. `delta` is what earlier changes of the same command did to the number of devices.
    ///
    /// # Errors
    /// [`ErrorCode::TooManyDevices`], [`ErrorCode::ArgumentInvalid`].
    pub fn create(&mut self, wanted: Wanted, delta: Delta) -> Result<Device, Refused> {
        let devices = self
            .context
            .devices_in_hub
            .saturating_add_signed(delta.total);
        if devices >= limits::DEVICES_PER_HUB_MAX {
            let text = format!(
                "the hub has {devices} devices; the limit is {}",
                limits::DEVICES_PER_HUB_MAX
            );
            return Err(Reject::new(ErrorCode::TooManyDevices, text).into());
        }
        let device = wanted.create(self.context)?;
        self.put(&device);
        self.delta.total += 1;
        self.delta.enabled += i64::from(device.enabled());
        Ok(device)
    }

    /// Replaces the identity; closes the device's connection if it may not go on as it is.
    ///
    /// # Errors
    /// [`ErrorCode::ArgumentInvalid`].
    pub fn update(&mut self, old: &Device, wanted: Wanted) -> Result<Device, Refused> {
        let device = wanted.update(old, self.context)?;
        self.put(&device);
        self.delta.enabled += i64::from(device.enabled()) - i64::from(old.enabled());
        if !device.enabled() {
            self.close(CloseReason::Disabled);
        } else if device.authentication != old.authentication {
            self.close(CloseReason::KeysChanged);
        }
        Ok(device)
    }

    /// Removes the device and everything it owns.
    ///
    /// # Errors
    /// [`Refused::View`] when state cannot be read.
    pub fn delete(&mut self, old: &Device) -> Result<(), Refused> {
        self.writes.remove(keys::device(self.device));
        for key in [keys::twin(self.device), keys::subscriptions(self.device)] {
            if self.view.get(&key)?.is_some() {
                self.writes.remove(key);
            }
        }
        c2d::clear(self.view, self.device, &mut self.writes)?;
        self.delta.total -= 1;
        self.delta.enabled -= i64::from(old.enabled());
        self.close(CloseReason::Deleted);
        Ok(())
    }

    fn put(&mut self, device: &Device) {
        self.writes
            .put(keys::device(self.device), stored::encode(device));
    }

    fn close(&mut self, why: CloseReason) {
        if let Some(present) = (self.context.presence)(self.device) {
            self.effects.push(Effect::Close {
                device: self.device.clone(),
                connection: present.connection,
                why,
            });
            self.presence.push(PresenceChange::Dropped {
                device: self.device.clone(),
            });
        }
    }
}

/// # Errors
/// [`ErrorCode::PreconditionFailed`] if the client expects another state of the identity.
pub(super) fn check_etag(device: &Device, if_match: &IfMatch) -> Result<(), Reject> {
    match if_match {
        IfMatch::Etag(expected) if *expected != device.etag_text() => Err(mismatch("device")),
        IfMatch::Etag(_) | IfMatch::Any | IfMatch::Absent => Ok(()),
    }
}

/// # Errors
/// [`ErrorCode::DeviceNotFound`].
pub(super) fn existing(device: Option<Device>) -> Result<Device, Reject> {
    device.ok_or_else(not_found)
}
