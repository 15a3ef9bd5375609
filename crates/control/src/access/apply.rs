//! The commands about rights.

use super::command::AccessCommand;
use crate::apply::Call;
use crate::command::Answer;
use crate::model::State;
use crate::refusal::{Refusal, RefusalCode};

impl State {
    pub(crate) fn access_command(
        &mut self,
        _call: Call<'_>,
        command: &AccessCommand,
    ) -> Result<Answer, Refusal> {
        let message = format!("This version does not carry out {command:?} yet.");
        Err(Refusal::new(RefusalCode::RoleAssignmentInvalid, message))
    }
}
