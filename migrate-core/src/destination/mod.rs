//! The side that a process moves to: it is driven, one message after the other. What may come when is
//! [`TRANSITIONS`](crate::protocol::message::TRANSITIONS).

mod accept;
mod descriptors;
mod huge_pages;
mod mapping;
mod objects;
mod prepare;
mod running;
mod shell;
mod sysv_ipc;
mod threads;
mod unix_group;
mod vdso;
mod verify;

use std::collections::HashMap;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use migrate_linux::awake::Awake;
use migrate_linux::cpu::CpuFeatures;
use migrate_linux::downtime_probe::DowntimeProbe;
use migrate_linux::kernel_module::KernelModule;
use shell::Shell;
pub(crate) use shell::raise_descriptor_limit;

use crate::clocks::{HostClocks, Offsets};
use crate::error::{Error, Result};
use crate::fault;
use crate::identity::FileIdentity;
use crate::image::Offer;
use crate::image::layout::ObjectState;
use crate::memory::posix_shm::NewPosixShm;
use crate::memory::receive::Placement;
use crate::memory::segments::NewSegment;
use crate::protocol::connection::{Connection, WireMessage};
use crate::protocol::message::{Accepted, FirstRun, MEASURED_FOR, QUESTIONS, Running, State, ToDestination, ToSource};
use crate::protocol::preamble::MigrationId;
use crate::resources::file::{Content, NewFiles};
use crate::resources::{Outside, process};
use crate::state::Named;

/// For how long a source may think about what was sent to the original while it was moved.
const PATIENCE: Duration = Duration::from_secs(2);

/// A process in the making, and where its pages are placed.
struct Making {
    shell: Shell,
    /// The process, as the host's agent names it.
    named: Named,
    placement: std::sync::Arc<Placement>,
    collapsing: huge_pages::Collapsing,
    streams: usize,
    tables: mapping::Tables,
    /// Objects without a name, by their numbers, and what they are to be.
    contents: HashMap<u32, Content>,
    states: HashMap<u32, ObjectState>,
    /// Those of them that are System V shared memory.
    segments: HashMap<u32, NewSegment>,
    /// And those that are files in /dev/shm.
    posix_shm: HashMap<u32, NewPosixShm>,
    /// Its semaphores and message queues.
    sysv: sysv_ipc::NewObjects,
    descriptors: descriptors::Descriptors,
    threads: threads::Threads,
    outside: Outside,
    /// The kernel module, if this host has it.
    module: Option<KernelModule>,
    layout: crate::image::layout::Layout,
    old_vdso: Option<vdso::OldVdso>,
    /// The offsets of its time namespace, if it has one of its own.
    clocks: Option<Offsets>,
    /// The original's CPU, where the threads' state has another form there than here.
    other_cpu: Option<CpuFeatures>,
}

/// What the destination holds, by its state.
enum Holding {
    Nothing,
    /// An offer, and the files of it whose content must be compared.
    Offer {
        offer: Box<Offer>,
        undecided: Vec<u32>,
        accepted: Accepted,
    },
    Making(Box<Making>),
    /// It could run.
    Prepared(Box<prepare::Runnable>),
}

/// Called with the process's PID and name before anything of it is made: the place for what it is to inherit from this one.
type Before<'b> = &'b dyn Fn(i32, &str);

/// The destination of one migration.
struct Destination<'b> {
    id: MigrationId,
    before: Before<'b>,
    state: State,
    holding: Holding,
    /// Where page connections arrive.
    pages: Option<UnixStream>,
    init: running::Init,
    /// Its PID as this process sees it, once it runs.
    runs: Option<i32>,
    /// Notes when it runs first, or why that cannot be had. None: it is not wanted.
    probe: Option<std::result::Result<DowntimeProbe, String>>,
    /// While it stands still.
    awake: Option<Awake>,
}

/// Serves one migration to this host, in a process of its own with a single thread: `control` is right behind the preambles, and
/// page connections of the same migration arrive on `pages`. `before` is called, with its PID and name, before anything of the process
/// is made: whatever is changed about this one then, the new one inherits.
///
/// Returns once the process runs and, where this process is the init of its PID namespace, has ended; or once nothing is left
/// of it.
pub fn serve(control: TcpStream, pages: UnixStream, id: MigrationId, before: Before<'_>) -> Result<()> {
    shell::raise_descriptor_limit();
    // A source that vanished without a word must not be waited for for ever.
    migrate_linux::sockets::notice_lost_peer(&control);
    // A source that has vanished must not leave a half-made process behind.
    if let Err(error) = migrate_linux::sockets::notice_silence(&control) {
        tracing::warn!("set up the connection: {error}");
    }
    let mut connection = Connection::new(control);
    let mut destination = Destination {
        id,
        before,
        state: State::Greeted,
        holding: Holding::Nothing,
        pages: Some(pages),
        init: running::Init::Host,
        runs: None,
        probe: None,
        awake: None,
    };
    loop {
        let message: ToDestination = match connection.receive() {
            Ok(message) => message,
            // A source that goes away before Commit has rolled back.
            Err(e) if e.is_closed() => return destination.ended(None),
            Err(source) => return destination.ended(Some(Error::Connection { host: "the source".into(), source })),
        };
        let kind = message.kind();
        let Some(next) = destination.state.after(kind) else {
            let why = format!(
                "{} must not come in state {:?}",
                ToDestination::kind_name(kind).unwrap_or("?"),
                destination.state
            );
            let _ = connection.send(&ToSource::Refused(why.clone()));
            return destination.ended(Some(Error::Invalid(why)));
        };
        match destination.step(message, connection.stream()) {
            Ok(reply) => {
                destination.state = next;
                if next == State::Running && fault::point(31, connection.stream()).is_err() {
                    drop(connection);
                    return destination.init.see_it_through();
                }
                let sent = connection.send(&reply);
                if let Holding::Prepared(runnable) = &mut destination.holding {
                    // While the source has something to do.
                    runnable.close_own_ends();
                }
                if next == State::Running {
                    destination.awake = None;
                    let _ = fault::point(32, connection.stream());
                    if let ToSource::Running(Running { pid, .. }) = &reply {
                        tracing::info!(pid, "{pid} runs here");
                    }
                    // Whether or not the source heard it.
                    if let Some(pid) = destination.runs {
                        afterwards(&mut connection, pid, destination.probe.take());
                    }
                    drop(connection);
                    return destination.init.see_it_through();
                }
                if next == State::Discarded || sent.is_err() {
                    return destination.ended(None);
                }
            }
            Err(error) => {
                let _ = connection.send(&ToSource::Refused(error.to_string()));
                return destination.ended(Some(error));
            }
        }
    }
}

/// Takes what was sent to the original meanwhile, and answers since when it runs. A source that has nothing to say closes the connection.
fn afterwards(
    connection: &mut Connection<TcpStream>,
    pid: i32,
    probe: Option<std::result::Result<DowntimeProbe, String>>,
) {
    let patience = if probe.is_some() { MEASURED_FOR } else { PATIENCE };
    if connection.stream().set_read_timeout(Some(patience)).is_err() {
        return;
    }
    for _ in 0..=QUESTIONS {
        match connection.receive() {
            Ok(ToDestination::LateSignals(late)) => process::late_signals::send(&late, pid),
            Ok(ToDestination::WhenFirst) => {
                let at = match &probe {
                    Some(Ok(probe)) => first_in(probe),
                    Some(Err(why)) => Err(why.clone()),
                    None => Err("nobody has asked for that before".into()),
                };
                let answer = HostClocks::now().map(|clocks| ToSource::FirstRun(FirstRun { at, clocks }));
                if !answer.is_ok_and(|answer| connection.send(&answer).is_ok()) {
                    return;
                }
            }
            _ => return,
        }
    }
}

/// When it first ran. On a busy host that may not be yet.
fn first_in(probe: &DowntimeProbe) -> std::result::Result<u64, String> {
    const LOOKS: u32 = 1000;
    for _ in 0..LOOKS {
        if let Some(at) = probe.first_in() {
            return Ok(at);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err("the probe has not seen it run yet".into())
}

impl Destination<'_> {
    fn step(&mut self, message: ToDestination, control: &TcpStream) -> Result<ToSource> {
        match (message, std::mem::replace(&mut self.holding, Holding::Nothing)) {
            (ToDestination::Offer(offer), Holding::Nothing) => self.offered(offer, control),
            (ToDestination::Content(content), Holding::Offer { offer, undecided, accepted }) => {
                self.content(offer, &undecided, accepted, &content)
            }
            (ToDestination::Build(skeleton), Holding::Offer { offer, accepted, undecided }) if undecided.is_empty() => {
                (self.before)(offer.pid, &offer.name);
                if accepted.pid_namespace {
                    self.init = running::enter_pid_namespace()?;
                }
                if let Some(offsets) = &skeleton.clocks {
                    running::enter_time_namespace(offsets)?;
                }
                let making = mapping::build(&offer, &skeleton, self.pages.take(), &self.init, control)?;
                if skeleton.measure {
                    let probe = DowntimeProbe::watch(making.shell.pid).map_err(|why| why.to_string());
                    self.probe = Some(probe.inspect_err(|why| tracing::warn!("its downtime is not measured: {why}")));
                }
                self.holding = Holding::Making(Box::new(making));
                Ok(ToSource::Built)
            }
            (ToDestination::Update(update), Holding::Making(mut making)) => {
                making.apply(&update)?;
                self.holding = Holding::Making(making);
                Ok(ToSource::Updated)
            }
            (ToDestination::Early(early), Holding::Making(mut making)) => {
                let making_now = &mut *making;
                let new = NewFiles::new(making_now.shell.pid, false, false).with(&making_now.contents);
                making_now.descriptors.install(early.files, new, &mut making_now.shell)?;
                making_now.threads.make(&early.threads, &mut making_now.shell)?;
                making_now.sysv.make(&early.sysv, &mut making_now.shell)?;
                self.holding = Holding::Making(making);
                Ok(ToSource::Made)
            }
            (ToDestination::Ahead(threads), Holding::Making(mut making)) => {
                let Making { threads: made, shell, outside, .. } = &mut *making;
                made.end_others(&threads, shell)?;
                made.make_missing(&threads, shell)?;
                made.go_ahead(threads, shell, outside)?;
                self.holding = Holding::Making(making);
                Ok(ToSource::Made)
            }
            (ToDestination::Soon, Holding::Making(making)) => {
                self.awake = Some(Awake::begin());
                self.holding = Holding::Making(making);
                Ok(ToSource::Made)
            }
            (ToDestination::Prepare(image), Holding::Making(making)) => {
                let (runnable, ready) = prepare::prepare(*making, *image, self.id, control)?;
                self.holding = Holding::Prepared(Box::new(runnable));
                Ok(ToSource::Prepared(ready))
            }
            (ToDestination::Commit, Holding::Prepared(runnable)) => {
                let began = Instant::now();
                let (inside, named) =
                    runnable.go_live(self.probe.as_mut().and_then(|probe| probe.as_mut().ok()), control)?;
                self.init.runs(inside);
                self.runs = Some(inside);
                Ok(ToSource::Running(Running { pid: named.pid, resume_us: began.elapsed().as_micros() as u64 }))
            }
            (ToDestination::Discard, _) => Ok(ToSource::Discarded),
            _ => Err(Error::Invalid("a message that does not fit what came before".into())),
        }
    }

    fn offered(&mut self, offer: Box<Offer>, control: &TcpStream) -> Result<ToSource> {
        let (accepted, undecided) = accept::check(&offer)?;
        fault::point(21, control)?;
        let reply = match undecided.is_empty() {
            true => ToSource::Accepted(accepted.clone()),
            false => ToSource::ContentNeeded(undecided.clone()),
        };
        self.holding = Holding::Offer { offer, undecided, accepted };
        Ok(reply)
    }

    fn content(
        &mut self,
        offer: Box<Offer>,
        undecided: &[u32],
        accepted: Accepted,
        content: &[FileIdentity],
    ) -> Result<ToSource> {
        accept::check_content(&offer, undecided, content)?;
        let accepted = Accepted { clocks: HostClocks::now()?, ..accepted };
        self.holding = Holding::Offer { offer, undecided: Vec::new(), accepted: accepted.clone() };
        Ok(ToSource::Accepted(accepted))
    }

    /// Nothing runs here: what there is of the process dies with its shell.
    fn ended(mut self, error: Option<Error>) -> Result<()> {
        self.holding = Holding::Nothing;
        error.map_or(Ok(()), Err)
    }
}
