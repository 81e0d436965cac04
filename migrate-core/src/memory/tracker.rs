//! Which pages of a running process have changed.

use migrate_linux::pagemap::PageMap;

use super::page_set::PageSet;
use super::scan::{Found, failed, is_of_file};
use super::select::has_own_pages;
use crate::error::{Error, Result};
use crate::image::layout::Layout;

/// What a look at the pages showed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Pages that hold something of their own and may have changed since the last look.
    pub changed: PageSet,
    /// Pages that hold nothing: they are as mapped, or zero. Every page that held something at the last look and no longer does is
    /// among them.
    pub empty: PageSet,
    /// Guard pages (MADV_GUARD_INSTALL) that are new since the last look, and perhaps others.
    pub guards: PageSet,
}

impl Look {
    /// What is known after a second look at some of the pages. A page that is guarded now is nothing else.
    pub(super) fn followed_by(self, newer: Look) -> Look {
        if self == Look::default() {
            return newer;
        }
        let guards = self.guards.without(&newer.changed).without(&newer.empty);
        Look {
            changed: self.changed.without(&newer.guards).union(&newer.changed),
            empty: self.empty.without(&newer.guards).union(&newer.empty),
            guards: guards.union(&newer.guards),
        }
    }
}

/// Finds what has changed. After every look with `rearm` the next one finds all that was written since.
pub trait DirtyTracker {
    /// Its name in reports.
    fn name(&self) -> &'static str;

    /// From the next look on, all of these pages count as changed: the destination has lost them.
    fn forget(&mut self, pages: &PageSet);

    /// Whether the process must stand still during the next look, if that rearms.
    fn stops_to_rearm(&self) -> bool {
        false
    }

    /// Looks at all pages of a layout. `rearm`: the process runs on, and will be looked at again.
    ///
    /// A page that changed is never left out; one that did not may be there.
    fn look(&mut self, layout: &Layout, pagemap: &PageMap, rearm: bool) -> Result<Look>;
}

/// No tracking: every look finds everything.
#[derive(Debug)]
pub struct Untracked;

impl DirtyTracker for Untracked {
    fn name(&self) -> &'static str {
        "none"
    }

    fn forget(&mut self, _pages: &PageSet) {}

    fn look(&mut self, layout: &Layout, pagemap: &PageMap, _rearm: bool) -> Result<Look> {
        let mut found = Found::new(pagemap);
        for vma in layout.vmas.iter().filter(|v| has_own_pages(v)) {
            found.scan_all(vma.start..vma.end, is_of_file(vma), pagemap, false).map_err(|e| failed(vma, e))?;
        }
        Ok(found.look())
    }
}

/// A tracker that cannot be had, with the reason.
pub fn unavailable(name: &str, why: impl std::fmt::Display) -> Error {
    Error::Refused(vec![format!("changed pages cannot be found by {name} here: {why}; use --tracker auto")])
}
