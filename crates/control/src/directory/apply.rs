//! The directory's commands.

use super::command::DirectoryCommand;
use crate::apply::Call;
use crate::command::Answer;
use crate::model::State;
use crate::refusal::{Refusal, RefusalCode};

impl State {
    pub(crate) fn directory_command(
        &mut self,
        _call: Call<'_>,
        command: &DirectoryCommand,
    ) -> Result<Answer, Refusal> {
        let message = format!("This version does not carry out {command:?} yet.");
        Err(Refusal::new(RefusalCode::DirectoryObjectInvalid, message))
    }
}
