//! Passing over one value of each type.
//!
//! What is one string in the file (listpack, ziplist, intset, zipmap) is passed over as one string: its own inside
//! is covered by the checksum of the file and is the server's business at load.

use super::Fault;
use super::input::Input;
use std::io::Read;

/// Whether the fields of a hash have times of expiry of their own, by which the key can vanish.
pub fn fields_expire(kind: u8, valkey: bool) -> bool {
    if valkey { kind == 22 } else { (22..=25).contains(&kind) }
}

/// Passes over a value; `Ok(false)` for a type that is not known here, of which nothing was taken.
pub fn skip(input: &mut Input<impl Read>, kind: u8, valkey: bool) -> Result<bool, Fault> {
    match kind {
        // String; and what is stored as one: zipmap, ziplist, intset, listpack.
        0 | 9..=13 | 16 | 17 | 20 => input.skip_string()?,
        // List, set.
        1 | 2 => strings(input, 1)?,
        // Sorted set with scores as text; 255, 254, 253 stand for infinities and NaN.
        3 => {
            for _ in 0..input.length()? {
                input.skip_string()?;
                match input.byte()? {
                    253..=255 => {}
                    n => input.skip(u64::from(n))?,
                }
            }
        }
        4 => strings(input, 2)?,
        5 => {
            for _ in 0..input.length()? {
                input.skip_string()?;
                input.skip(8)?;
            }
        }
        7 => {
            input.length()?;
            module(input)?;
        }
        14 => strings(input, 1)?,
        15 | 19 | 21 => stream(input, kind)?,
        18 => {
            for _ in 0..input.length()? {
                input.length()?;
                input.skip_string()?;
            }
        }
        // Valkey: hash whose fields expire.
        22 if valkey => {
            for _ in 0..input.length()? {
                input.skip_string()?;
                input.skip_string()?;
                input.skip(8)?;
            }
        }
        22 | 24 if !valkey => {
            if kind == 24 {
                input.skip(8)?;
            }
            for _ in 0..input.length()? {
                input.length()?;
                input.skip_string()?;
                input.skip_string()?;
            }
        }
        23 | 25 if !valkey => {
            if kind == 25 {
                input.skip(8)?;
            }
            input.skip_string()?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// A count, and so many times so many strings.
fn strings(input: &mut Input<impl Read>, each: u64) -> Result<(), Fault> {
    let count = input.length()?;
    let all = count.checked_mul(each).ok_or_else(|| input.corrupt("an impossible count"))?;
    for _ in 0..all {
        input.skip_string()?;
    }
    Ok(())
}

/// The values of a module up to their end mark; each says what it is.
pub fn module(input: &mut Input<impl Read>) -> Result<(), Fault> {
    loop {
        match input.length()? {
            0 => return Ok(()),
            1 | 2 => {
                input.length()?;
            }
            3 => input.skip(4)?,
            4 => input.skip(8)?,
            5 => input.skip_string()?,
            n => return Err(input.corrupt(format!("an unknown part of a module's value ({n})"))),
        }
    }
}

fn numbers(input: &mut Input<impl Read>, n: usize) -> Result<(), Fault> {
    for _ in 0..n {
        input.length()?;
    }
    Ok(())
}

fn stream(input: &mut Input<impl Read>, kind: u8) -> Result<(), Fault> {
    // Nodes: the first id as a string, and a listpack.
    strings(input, 2)?;
    // Length and last id; since version 2 also first id, greatest deleted id and the number ever added.
    numbers(input, if kind >= 19 { 8 } else { 3 })?;
    for _ in 0..input.length()? {
        input.skip_string()?;
        numbers(input, if kind >= 19 { 3 } else { 2 })?;
        // Entries pending in the group: raw id, time, deliveries.
        for _ in 0..input.length()? {
            input.skip(16 + 8)?;
            input.length()?;
        }
        for _ in 0..input.length()? {
            input.skip_string()?;
            input.skip(if kind >= 21 { 16 } else { 8 })?;
            // Entries pending for the consumer: raw ids.
            let pending = input.length()?;
            let bytes = pending.checked_mul(16).ok_or_else(|| input.corrupt("an impossible count"))?;
            input.skip(bytes)?;
        }
    }
    Ok(())
}
