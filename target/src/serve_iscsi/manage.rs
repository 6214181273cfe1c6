//! Task management functions (RFC 7143, section 11.5; SAM-5, clause 7).
//!
//! Its one rule: an answer never waits long for a backing. What a hung command may still write to is fenced.

use std::rc::Rc;
use std::time::Duration;

use reactor::io as verbs;
use wire::iscsi::pdu::code::{function, function_response};
use wire::iscsi::pdu::{Lun, Response};
use wire::iscsi::session::TaskId;
use wire::scsi::Reset;

use crate::clients::DropReason;
use crate::scsi_unit::Management;
use crate::serve_iscsi::connection::Connection;

/// How long an answer waits for the aborted tasks to end by themselves.
const PATIENCE: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(5);

/// What was asked for.
pub struct Function {
    pub tag: u32,
    pub function: u8,
    pub lun: Lun,
    /// The session's own tasks that it ends.
    pub tasks: Vec<TaskId>,
}

/// Carries it out beside everything else.
pub fn start(connection: &Rc<Connection>, asked: Function) {
    connection.abort(&asked.tasks);
    let connection = connection.clone();
    connection.here.core().clone().spawn(async move {
        let response = carry_out(&connection, &asked).await;
        ended(&connection, &asked.tasks).await;
        if connection.has_ended() {
            return;
        }
        let answer = connection.session.borrow_mut().management_done(asked.tag, response);
        connection.send(&Response::TaskManagement(answer), &[]);
        if asked.function == function::TARGET_COLD_RESET {
            drop_all(&connection);
        }
    });
}

async fn carry_out(connection: &Connection, asked: &Function) -> u8 {
    let management = match asked.function {
        function::ABORT_TASK => return function_response::COMPLETE,
        function::ABORT_TASK_SET => Management::AbortTaskSet,
        function::CLEAR_TASK_SET => Management::ClearTaskSet,
        function::LOGICAL_UNIT_RESET => Management::Reset(Reset::LogicalUnit),
        function::TARGET_WARM_RESET => Management::Reset(Reset::TargetWarm),
        function::TARGET_COLD_RESET => Management::Reset(Reset::TargetCold),
        _ => return function_response::NOT_SUPPORTED,
    };
    let whole_target = matches!(asked.function, function::TARGET_WARM_RESET | function::TARGET_COLD_RESET);
    let units = match whole_target {
        true => connection.all_units(),
        false => connection.unit(asked.lun).into_iter().map(|(_, unit)| unit).collect(),
    };
    if units.is_empty() {
        return function_response::LUN_DOES_NOT_EXIST;
    }
    for unit in units {
        unit.manage(&connection.here, management).await;
    }
    function_response::COMPLETE
}

/// Waits until the tasks have ended, but not for ever.
async fn ended(connection: &Connection, tasks: &[TaskId]) {
    let core = connection.here.core();
    let deadline = core.now() + PATIENCE;
    let aborted = |&id: &TaskId| connection.task(id).is_some_and(|task| task.is_aborted());
    while tasks.iter().any(aborted) && core.now() < deadline {
        verbs::sleep(core, LOOK).await;
    }
}

/// A cold reset ends every session of the target.
fn drop_all(connection: &Rc<Connection>) {
    let Some(target) = &connection.target else { return };
    for other in connection.here.iscsi_sessions().of_target(&target.name) {
        if !Rc::ptr_eq(&other, connection) {
            other.end(DropReason::Reset);
        }
    }
    // The answer is still on its way.
    connection.client.stop_reading();
}
