
import json
import os
import sys
import time

FOLDER = "/kairos/gdb/"


def report(kind, value):
    with open(FOLDER + "report", "w") as file:
        json.dump({kind: value}, file)


def map_room(length):
    """MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, readable, writable, executable."""
    call = "((long (*)(long, long, int, int, int, long)) mmap)(%d, %d, 7, 0x100022, -1, 0)"
    answer = int(gdb.parse_and_eval(call % (BASE, length)))
    if answer != BASE:
        raise gdb.GdbError("mmap of the room for the image answered %d" % answer)


def address_of(name):
    value = gdb.parse_and_eval("'%s'" % name)
    if "gnu-indirect-function" in str(value.type):
        return int(gdb.parse_and_eval("((long (*)(void)) %d)()" % int(value.address)))
    return int(value.address)


def settle_data(server, image):
    for old, initial, new, size, moves in DATA:
        live = bytes(server.read_memory(old, len(initial)))
        if moves and live != initial:
            server.write_memory(new, live[:size])
        elif not moves and live == initial:
            server.write_memory(old, bytes(image[new - BASE : new - BASE + size]))


def apply():
    server = gdb.selected_inferior()
    with open(FOLDER + "image", "rb") as file:
        image = bytearray(file.read())
    map_room(len(image))
    for slot, name in IMPORTS:
        image[slot - BASE : slot - BASE + 8] = address_of(name).to_bytes(8, "little")
    server.write_memory(BASE, bytes(image))
    settle_data(server, image)
    for at, new in JUMPS:
        distance = (new - at - 5) & 0xFFFFFFFF
        server.write_memory(at, b"\xe9" + distance.to_bytes(4, "little"))
    if TRANSFORMER is not None:
        gdb.execute("call ((void (*)(void)) %d)()" % TRANSFORMER)
    os.symlink(NEW_PROGRAM, "/kairos/program.gdb")
    os.replace("/kairos/program.gdb", "/kairos/program")


def living():
    return [inferior for inferior in gdb.inferiors() if inferior.pid]


def at_point():
    thread = gdb.selected_thread()
    return thread is not None and thread.is_valid() and gdb.newest_frame().pc() == ENTRY


gdb.execute("set confirm off")
gdb.execute("set pagination off")
# Signals are the server's own affair.
gdb.execute("handle all nostop noprint pass")
conditions = []
if INFERIOR > 1:
    # The point lies in a forked process: follow all of them.
    gdb.execute("set detach-on-fork off")
    gdb.execute("set schedule-multiple on")
    conditions.append("$_inferior == %d" % INFERIOR)
if THREAD > 1:
    conditions.append("$_thread == %d" % THREAD)
breakpoint = gdb.Breakpoint("*0x%x" % ENTRY)
if conditions:
    breakpoint.condition = " && ".join(conditions)
breakpoint.ignore_count = NTH - 1
sys.stderr.write("kairos: attached\n")
sys.stderr.flush()
try:
    # With several processes, the end of each of them stops the others.
    while living():
        if gdb.selected_inferior().pid == 0:
            gdb.execute("inferior %d" % living()[0].num)
        gdb.execute("continue")
        if at_point():
            break
    if living():
        breakpoint.delete()
        begun = time.monotonic()
        apply()
        report("applied", (time.monotonic() - begun) * 1e6)
    else:
        report("missed", "entry %d of %s did not come" % (NTH, FUNCTION))
except gdb.error as error:
    report("failed", str(error))
# From here on the server runs by itself.
for inferior in living():
    gdb.execute("inferior %d" % inferior.num)
    gdb.execute("detach")
end
