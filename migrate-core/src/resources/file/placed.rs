//! The descriptions of a new process when all of them are made: those that others refer to, and at which numbers it has them.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use super::FileImage;
use crate::error::{Error, Result};
use crate::image::{Descriptor, ObjectId};

/// The descriptions of the new process, every one of which is made.
#[derive(Debug)]
pub struct Made<'a> {
    made: &'a HashMap<ObjectId, (FileImage, OwnedFd)>,
}

impl<'a> Made<'a> {
    /// Those.
    pub fn new(made: &'a HashMap<ObjectId, (FileImage, OwnedFd)>) -> Made<'a> {
        Made { made }
    }

    /// One of them. Err: a peer that tells of one that it has not described.
    pub fn fd(&self, object: ObjectId) -> Result<&'a OwnedFd> {
        let made = self.made.get(&object).map(|(_, fd)| fd);
        made.ok_or_else(|| Error::Invalid(format!("description {} is referred to, and is none", object.0)))
    }
}

/// Where the new process has a description.
#[derive(Debug, Clone, Copy)]
pub struct Placed<'a> {
    /// One of its numbers.
    pub number: i32,
    /// Which of its parts is to be connected.
    pub part: usize,
    table: &'a [Descriptor],
    /// Where those are for now that have no number.
    aside: &'a HashMap<ObjectId, i32>,
}

impl<'a> Placed<'a> {
    /// By the process's table, ascending, and where those are for now that it refers to and that are not in it. None: no number
    /// refers to it.
    pub fn of(object: ObjectId, table: &'a [Descriptor], aside: &'a HashMap<ObjectId, i32>) -> Option<Placed<'a>> {
        let placed = Placed { number: -1, part: 0, table, aside };
        Some(Placed { number: placed.number_of(object)?, ..placed })
    }

    /// A number of another one.
    pub fn number_of(&self, object: ObjectId) -> Option<i32> {
        let number = self.table.iter().find(|d| d.object == object).map(|d| d.number);
        number.or_else(|| self.aside.get(&object).copied())
    }

    /// For connecting that part of it.
    pub fn part(self, part: usize) -> Placed<'a> {
        Placed { part, ..self }
    }

    /// All of its numbers.
    pub fn all(self) -> impl Iterator<Item = &'a Descriptor> {
        let object = self.at(self.number).map(|own| own.object);
        self.table.iter().filter(move |other| Some(other.object) == object)
    }

    /// The lowest number that is free.
    pub fn lowest_free(&self) -> i32 {
        let free = (0..).zip(self.table).find(|(number, taken)| *number != taken.number);
        free.map_or(self.spare(), |(number, _)| number)
    }

    /// A number that is free until the process is let go.
    pub fn spare(&self) -> i32 {
        self.table.last().map_or(0, |d| d.number.saturating_add(1))
    }

    /// What is at a number.
    pub fn at(&self, number: i32) -> Option<&'a Descriptor> {
        let place = self.table.binary_search_by_key(&number, |d| d.number).ok()?;
        self.table.get(place)
    }
}
