//! Where consumer groups stand in a partition: the offsets that consumers commit.

use crate::command::{ConsumerCommand, StoredOffset};
use crate::{Context, Decision, Refused, Reply, View, keys, stored};
use types::{ErrorCode, Reject};

/// Decides one command of this family.
///
/// A commit is stored as given, also when it goes backwards: a consumer may rewind. Group names compare without case.
///
/// # Errors
/// [`ErrorCode::ConsumerGroupNotFound`] for a group the hub does not have ([`ConsumerCommand::Forget`] is for groups that
/// are gone and asks no such question); otherwise as [`crate::decide`].
pub fn decide(
    view: &dyn View,
    context: &Context<'_>,
    command: &ConsumerCommand,
) -> Result<Decision, Refused> {
    match command {
        ConsumerCommand::Get { group } => {
            let value = view.get(&known_group_key(context, group)?)?;
            let offset = value
                .map(|value| stored::decode::<StoredOffset>("consumer offset", &value))
                .transpose()?;
            Ok(Decision::reply(Reply::Offset(offset)))
        }
        ConsumerCommand::Commit { group, offset } => {
            let key = known_group_key(context, group)?;
            let mut decision = Decision::reply(Reply::Done);
            decision.writes.put(key, stored::encode(offset));
            Ok(decision)
        }
        ConsumerCommand::Forget { group } => {
            let key = key_of(group);
            let mut decision = Decision::reply(Reply::Done);
            if view.get(&key)?.is_some() {
                decision.writes.remove(key);
            }
            Ok(decision)
        }
    }
}

fn key_of(group: &str) -> Vec<u8> {
    keys::offset(&group.to_ascii_lowercase())
}

fn known_group_key(context: &Context<'_>, group: &str) -> Result<Vec<u8>, Reject> {
    if context
        .settings
        .consumer_groups
        .iter()
        .any(|known| known.eq_ignore_ascii_case(group))
    {
        Ok(key_of(group))
    } else {
        Err(Reject::new(
            ErrorCode::ConsumerGroupNotFound,
            "the hub has no consumer group of this name",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Command;
    use crate::c2d::world::World;
    use bytes::Bytes;
    use types::{Epoch, Sequence};

    fn offset(next: u64, epoch: u64) -> StoredOffset {
        StoredOffset {
            next: Sequence(next),
            epoch: Epoch(epoch),
        }
    }

    fn get(world: &mut World, group: &str) -> Result<Reply, ErrorCode> {
        world
            .run(Command::Consumer(ConsumerCommand::Get {
                group: group.into(),
            }))
            .map(|decision| decision.reply)
    }

    fn commit(world: &mut World, group: &str, offset: StoredOffset) -> Result<(), ErrorCode> {
        world
            .run(Command::Consumer(ConsumerCommand::Commit {
                group: group.into(),
                offset,
            }))
            .map(drop)
    }

    #[test]
    fn a_committed_offset_is_found_again_by_group() {
        let mut world = World::empty();
        assert_eq!(get(&mut world, "$Default"), Ok(Reply::Offset(None)));
        commit(&mut world, "$Default", offset(7, 2)).unwrap();
        assert_eq!(
            get(&mut world, "$Default"),
            Ok(Reply::Offset(Some(offset(7, 2))))
        );
        assert_eq!(get(&mut world, "Billing"), Ok(Reply::Offset(None)));
    }

    #[test]
    fn group_names_compare_without_case() {
        let mut world = World::empty();
        commit(&mut world, "BILLING", offset(7, 2)).unwrap();
        assert_eq!(
            get(&mut world, "billing"),
            Ok(Reply::Offset(Some(offset(7, 2))))
        );
    }

    #[test]
    fn a_consumer_may_rewind() {
        let mut world = World::empty();
        commit(&mut world, "Billing", offset(7, 2)).unwrap();
        commit(&mut world, "Billing", offset(3, 2)).unwrap();
        assert_eq!(
            get(&mut world, "Billing"),
            Ok(Reply::Offset(Some(offset(3, 2))))
        );
    }

    #[test]
    fn unknown_groups_are_refused() {
        let mut world = World::empty();
        for group in ["", "other", "Billing ", "$default2"] {
            assert_eq!(
                get(&mut world, group),
                Err(ErrorCode::ConsumerGroupNotFound),
                "{group}"
            );
            assert_eq!(
                commit(&mut world, group, offset(1, 1)),
                Err(ErrorCode::ConsumerGroupNotFound),
                "{group}"
            );
        }
    }

    #[test]
    fn a_deleted_groups_position_can_be_forgotten() {
        let mut world = World::empty();
        commit(&mut world, "Billing", offset(7, 2)).unwrap();
        world
            .settings
            .consumer_groups
            .retain(|group| group != "Billing");
        let forget = || {
            Command::Consumer(ConsumerCommand::Forget {
                group: "billing".into(),
            })
        };
        assert_eq!(world.run(forget()).unwrap().reply, Reply::Done);
        assert!(world.view.0.is_empty());
        assert!(world.run(forget()).unwrap().writes.is_empty());
    }

    /// Written by format version 1; must open for ever.
    #[test]
    fn a_version_1_offset_opens_for_ever() {
        let mut world = World::empty();
        let fixture = Bytes::from_static(b"\x01{\"next\":18446744073709551615,\"epoch\":3}");
        world
            .view
            .0
            .insert(Bytes::from_static(b"o$default"), fixture.clone());
        assert_eq!(
            get(&mut world, "$Default"),
            Ok(Reply::Offset(Some(offset(u64::MAX, 3))))
        );
        commit(&mut world, "$Default", offset(u64::MAX, 3)).unwrap();
        assert_eq!(world.view.0.values().collect::<Vec<_>>(), [&fixture]);
    }
}
