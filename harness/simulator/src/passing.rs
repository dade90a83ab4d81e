//! Descriptors that processes pass to each other along with bytes.

use crate::channels::{self, MOST_PASSED, Passed};
use crate::descriptors::Kind;
use crate::raw;
use crate::world::{Declined, World};

const SOL_SOCKET: u32 = 1;
const SCM_RIGHTS: u32 = 1;
/// Bytes of the head of a control message.
const HEAD: u64 = 16;
const PEEK: u64 = 2;
/// `MSG_CTRUNC`.
const TRUNCATED: u32 = 8;
const CLOSE_ON_EXEC: u64 = 0x4000_0000;

/// Takes what a message to be sent passes on; the bytes are sent after it.
///
/// # Errors
/// When it passes something else than descriptors, or too many.
pub(crate) fn send(world: &mut World, descriptor: u64, message: u64) -> Result<(), Declined> {
    // SAFETY: the server's own structure.
    let [control, length]: [u64; 2] = unsafe { raw::load(message + 32) };
    if control == 0 || length < HEAD {
        return Ok(());
    }
    let Some((Kind::Pair, object)) = world.object(descriptor) else {
        return Err(Declined("sendmsg(2) with control messages"));
    };
    let (_, to) = channels::ends(object);
    // SAFETY: as above.
    let (size, [level, kind]): (u64, [u32; 2]) =
        unsafe { (raw::load(control), raw::load(control + 8)) };
    let ends = (size + 7) & !7;
    if (level, kind) != (SOL_SOCKET, SCM_RIGHTS) || ends < length || size < HEAD {
        return Err(Declined("sendmsg(2) with control messages"));
    }
    let channel = &world.channels[to];
    let at = channel.taken + u64::from(channel.length);
    for place in 0..(size - HEAD) / 4 {
        // SAFETY: as above.
        let number = unsafe { raw::load::<u32>(control + HEAD + 4 * place) };
        let Some((index, _)) = world.find(u64::from(number)) else {
            return Err(Declined("sendmsg(2) of a descriptor that is not open"));
        };
        let free = world.channels[to]
            .passed
            .iter()
            .position(|p| p.description == 0);
        let free = free.ok_or(Declined("too many descriptors on their way"))?;
        debug_assert!(free < MOST_PASSED);
        world.channels[to].passed[free] = Passed {
            at,
            description: index as u64 + 1,
        };
        world.descriptors.descriptions[index].references += 1;
    }
    Ok(())
}

/// Hands over what came along with the bytes that were just received.
///
/// # Errors
/// When more is passed than there is room for.
pub(crate) fn receive(
    world: &mut World,
    descriptor: u64,
    message: u64,
    flags: u64,
    count: i64,
) -> Result<(), Declined> {
    // SAFETY: the server's own structure.
    let [control, room]: [u64; 2] = unsafe { raw::load(message + 32) };
    let mut used = 0;
    let mut told = 0;
    if let (Some((Kind::Pair, object)), true) = (world.object(descriptor), count > 0) {
        if flags & PEEK != 0 {
            return Err(Declined("recvmsg(2) that only looks"));
        }
        let (from, _) = channels::ends(object);
        let mut passed = 0;
        while let Some(index) = world.channels[from].take_passed_before(count as u64) {
            let place = HEAD + 4 * passed;
            if control == 0 || place + 4 > room {
                told |= TRUNCATED;
                world.release(index);
                continue;
            }
            let number = world.give(index, 0, flags & CLOSE_ON_EXEC != 0);
            // SAFETY: as above.
            unsafe { raw::store(control + place, number as i32) };
            passed += 1;
        }
        if passed > 0 {
            // SAFETY: as above.
            unsafe {
                raw::store(control, HEAD + 4 * passed);
                raw::store(control + 8, [SOL_SOCKET, SCM_RIGHTS]);
            }
            used = HEAD + (4 * passed).next_multiple_of(8);
        }
    }
    // SAFETY: as above.
    unsafe {
        raw::store(message + 40, used.min(room));
        raw::store(message + 48, told);
    }
    Ok(())
}
