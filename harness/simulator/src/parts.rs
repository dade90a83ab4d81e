//! What of the shared memory is in use: so much has to be copied in order to come back
//! to it. Everything outside of these parts is never read before it is written.

use core::mem::{offset_of, size_of};

use crate::channels::{CAPACITY, Channel, MOST_CHANNELS};
use crate::layout::{STORE, WORLD};
use crate::network::Network;
use crate::transcript::Transcript;
use crate::world::World;

/// Tells every part in use: its offset from the world's beginning, and its length.
pub fn each(world: &World, tell: &mut dyn FnMut(usize, usize)) {
    let network = offset_of!(World, network);
    tell(0, network + Network::TABLES);
    world
        .network
        .buffers(&mut |offset, length| tell(network + offset, length));
    let channels = offset_of!(World, channels);
    for (at, channel) in world.channels.iter().enumerate() {
        let length = (channel.length as usize).min(CAPACITY);
        let start = channels + at * size_of::<Channel>();
        tell(start, offset_of!(Channel, bytes) + length);
    }
    let processes = offset_of!(World, processes);
    tell(processes, core::mem::size_of_val(world.known()));
    let transcript = offset_of!(World, transcript);
    world
        .transcript
        .parts(&mut |offset, length| tell(transcript + offset, length));
    let store = (STORE - WORLD) as usize;
    tell(store, world.files.stored as usize);
}

const _: () = assert!(
    MOST_CHANNELS < 256,
    "ends of a pair are told apart by bytes"
);
const _: () = assert!(offset_of!(Transcript, length) == 0);
