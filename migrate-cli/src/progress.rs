//! What a push shows while it runs, on standard error: a bar on a terminal, a line for each phase elsewhere.
//!
//! Drawn by a thread of its own: a slow terminal must not lengthen the downtime.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use migrate_core::phase::{Event, Observer, Phase};

/// The thread that draws.
pub struct Progress {
    events: Sender<Event>,
    drawing: Option<JoinHandle<()>>,
}

/// Takes events from the move, and is done with them at once.
pub struct Watcher(Sender<Event>);

impl Observer for Watcher {
    fn event(&mut self, event: Event) {
        // Without a thread that draws there is nobody to tell.
        let _ = self.0.send(event);
    }
}

impl Progress {
    /// Begins to draw, unless `quiet`.
    pub fn start(quiet: bool) -> Self {
        let (events, arriving) = channel();
        let draw = move || match (quiet, io::stderr().is_terminal()) {
            (true, _) => {}
            (false, true) => draw_bar(&arriving),
            (false, false) => write_lines(&arriving, &mut io::stderr()),
        };
        let drawing = thread::Builder::new().name("progress".into()).spawn(draw).ok();
        Progress { events, drawing }
    }

    /// What the move reports to.
    pub fn watcher(&self) -> Watcher {
        Watcher(self.events.clone())
    }

    /// Draws what is left and clears the bar. Every [`Watcher`] must be gone.
    pub fn finish(self) {
        drop(self.events);
        if let Some(drawing) = self.drawing {
            let _ = drawing.join();
        }
    }
}

fn draw_bar(events: &Receiver<Event>) {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let waiting = ProgressStyle::with_template("{spinner} {msg}");
    let copying =
        ProgressStyle::with_template("{spinner} {msg} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec}, {eta} left");
    if let Ok(style) = waiting {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    let mut copying = copying.ok();
    for event in events {
        match event {
            Event::Phase(Phase::Done(_)) => {}
            Event::Phase(phase) => bar.set_message(phase.to_string()),
            Event::Progress { sent, expected } => {
                if let Some(style) = copying.take() {
                    bar.set_style(style);
                }
                bar.set_length(expected.max(sent));
                bar.set_position(sent);
            }
            Event::Warning(warning) => bar.suspend(|| eprintln!("warning: {warning}")),
            Event::Throttle(percent) => bar.suspend(|| eprintln!("{}", slowed_down(percent))),
        }
    }
    bar.finish_and_clear();
}

fn write_lines(events: &Receiver<Event>, to: &mut impl Write) {
    for event in events {
        // Nobody reads any more: that is no reason to stop the move.
        let _ = match event {
            Event::Phase(Phase::Done(_)) | Event::Progress { .. } => Ok(()),
            Event::Phase(phase) => writeln!(to, "{phase}"),
            Event::Warning(warning) => writeln!(to, "warning: {warning}"),
            Event::Throttle(percent) => writeln!(to, "{}", slowed_down(percent)),
        };
    }
}

fn slowed_down(percent: u8) -> String {
    format!("it changes its memory faster than it can be sent: slowing it down by {percent} %")
}

#[cfg(test)]
mod tests {
    use migrate_core::phase::Outcome;

    use super::*;

    #[test]
    fn a_pipe_gets_a_line_for_each_phase() {
        let (events, arriving) = channel();
        let mut watcher = Watcher(events);
        watcher.event(Event::Phase(Phase::Preflight));
        watcher.event(Event::Phase(Phase::PreCopy { round: 1 }));
        watcher.event(Event::Progress { sent: 1, expected: 2 });
        watcher.event(Event::Warning("careful".into()));
        watcher.event(Event::Phase(Phase::Done(Outcome::Moved)));
        drop(watcher);
        let mut text = Vec::new();
        write_lines(&arriving, &mut text);
        assert_eq!(String::from_utf8_lossy(&text), "preflight\npre-copy, round 1\nwarning: careful\n");
    }

    #[test]
    fn events_may_come_when_nobody_draws() {
        let progress = Progress::start(true);
        let mut watcher = progress.watcher();
        for _ in 0..1000 {
            watcher.event(Event::Progress { sent: 1, expected: 2 });
        }
        drop(watcher);
        progress.finish();
    }
}
