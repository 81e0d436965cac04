//! What must be undone should the move fail: one list, newest first.
//!
//! Not guards in fields: these drop in the order of their declaration, and would thaw the process before what was changed in it
//! is put back.

use std::cell::RefCell;
use std::rc::Rc;

use migrate_linux::awake::Awake;
use migrate_linux::throttle::Throttle;

use super::freeze::FrozenProcess;
use super::pages::Pages;
use super::peer::Peer;
use crate::error::Result;
use crate::fault;
use crate::memory::send::PageStreams;
use crate::state::Leaving;

/// What the steps of a migration hold, and undoing acts on.
#[derive(Default)]
pub struct Held {
    /// The destination.
    pub peer: Option<Peer>,
    /// The page streams.
    pub streams: Option<PageStreams>,
    /// The memory copy, with its dirty tracking.
    pub pages: Option<Pages>,
    /// The process, slowed down.
    pub throttle: Option<Throttle>,
    /// The process, stopped.
    pub frozen: Option<FrozenProcess>,
    /// This host, while it stands.
    pub awake: Option<Awake>,
    /// The note that it may run elsewhere.
    pub leaving: Option<Leaving>,
}

impl Held {
    /// A numbered fault point.
    pub fn fault(&self, number: u32) -> Result<()> {
        self.peer.as_ref().map_or(Ok(()), |peer| fault::point(number, peer.stream()))
    }
}

type Step = Box<dyn FnOnce(&mut Held) -> Result<()>>;

/// What is held, and how to let go of it.
pub struct UndoList {
    /// What is held.
    pub held: Held,
    steps: Vec<(&'static str, Step)>,
    disarmed: bool,
    failures: Failures,
}

/// What could not be undone, in words; whoever reports has it too.
pub type Failures = Rc<RefCell<Vec<String>>>;

impl UndoList {
    /// An empty one, which tells `failures` what it could not do.
    pub fn new(failures: Failures) -> UndoList {
        UndoList { held: Held::default(), steps: Vec::new(), disarmed: false, failures }
    }

    /// Adds what undoes the step that is about to be made.
    pub fn push(&mut self, what: &'static str, step: impl FnOnce(&mut Held) -> Result<()> + 'static) {
        self.steps.push((what, Box::new(step)));
    }

    /// Past the point of no return: nothing is undone, whatever happens.
    pub fn disarm(&mut self) {
        self.disarmed = true;
    }

    /// Undoes everything after all: it is certain that the process does not run elsewhere.
    pub fn roll_back(mut self) {
        self.disarmed = false;
    }
}

impl Drop for UndoList {
    fn drop(&mut self) {
        if self.disarmed {
            return;
        }
        while let Some((what, step)) = self.steps.pop() {
            if let Err(error) = step(&mut self.held) {
                tracing::warn!("undoing ({what}): {error}");
                self.failures.borrow_mut().push(format!("it is not quite as it was ({what}): {error}"));
            }
        }
        // Last of all: until the process runs, the note says that it stands.
        if let Some(leaving) = self.held.leaving.take() {
            leaving.settled();
        }
    }
}
