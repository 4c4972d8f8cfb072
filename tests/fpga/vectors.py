"""The wire to an FPGA board as cases: what is sent, and what must come back. Written by hand from docs/fpga-wire.md.

    for case in CASES:
        device.reset()
        run(case, device)       # AssertionError says which step was answered otherwise

They run on the simulated board (test_fpga_vectors_board.py) and on the gateware (test_fpga_vectors_gateware.py). A
board that anybody else builds has to pass them too.
"""

from __future__ import annotations

from vector_kit import (
    ACQUIRE,
    ACQUIRING,
    ARM,
    ARMED,
    BAD_CRC,
    BUSY,
    CHIP,
    COMPLETE,
    CUT,
    DONE,
    ECHO,
    FENCE,
    FETCH,
    FIRE,
    FIRING,
    GREET,
    HELLO,
    IDENTITY,
    IDLE,
    LIMIT,
    LIMIT_ALL,
    LIMITS,
    LIMITS_SET,
    MALFORMED,
    NO_ROOM,
    NOT_ARMED,
    OK,
    ONE,
    OPEN,
    PLAIN,
    REST,
    RESTED,
    RUNNING,
    SPEED,
    STATUS,
    STOPPED,
    STOPPING,
    TAKEN,
    TRIPPED,
    UNKNOWN_OP,
    UPLOAD,
    WATCHDOG,
    WRONG_NUMBER,
    WRONG_SESSION,
    Answer,
    Ask,
    Case,
    Identity,
    Raw,
    Step,
    Wait,
    acquired,
    arm,
    cells,
    fetched,
    fire,
    fired,
    framed,
    i16,
    limits,
    load,
    make_ready,
    over,
    pulses,
    read,
    reads,
    record,
    refused,
    silence,
    status,
    taken,
    tell,
    together,
    u8,
    u16,
    u32,
    vectors,
    waves,
)  # fmt: skip

ALL = record(b"\xff\x7f", lines=3)  # 3 x 5 = 15 bits, one of filling
LONG = pulses(record(b"\x01", repeat=5), width=3200, gap=1000)  # ticks enough to ask something meanwhile
LAST = pulses(ONE, width=3200)
FIVE = pulses(record(b"\x01", repeat=5))
TWICE = pulses(ONE, record(b"\x02", repeat=3), width=1400, gap=450)
PATIENT = pulses(record(b"\x01", repeat=5), width=900, gap=500)  # 3 pulses in 5000 ticks
SLOW = pulses(ONE, width=2_000_000)  # more than the 20 ms of REST at 48 MHz
ENDLESS = cells(averages=65535, integration=4800)  # an acquisition that is never done


# -- frames -----------------------------------------------------------------------------------------------------------

FRAMES = [
    Case("empty frames are ignored", (
        silence(Raw(b"\0" * 8)), GREET, silence(Raw(b"\0\0")), tell(STATUS, b"", OK, status(flags=0, good=2, bad=0)),
    )),
    Case("a wrong CRC is dropped without a word and counted", (
        GREET, silence(Ask(STATUS, wrong=True)), tell(STATUS, b"", OK, status(flags=0, good=2, bad=1)),
    )),
    Case("what is no COBS is dropped and counted", (
        GREET, silence(Raw(b"\x05\x01\x00")), silence(Raw(b"\xff\x01\x02\x00")),
        tell(STATUS, b"", OK, status(flags=0, good=2, bad=2)),
    )),
    Case("a body of 10 bytes is dropped and counted, whatever its CRC", (
        GREET, silence(Raw(framed(bytes(6)))), silence(Raw(framed(b"\x02"))),
        tell(STATUS, b"", OK, status(flags=0, good=2, bad=2)),
    )),
    Case("a body of max_body is taken, one more byte is dropped", (
        GREET, tell(UPLOAD, u16(1, 0) + bytes(285), NO_ROOM), silence(Ask(UPLOAD, u16(1, 0) + bytes(286))),
        tell(STATUS, b"", OK, status(flags=0, good=3, bad=1)),
    )),
    Case("much too long a frame is dropped as one", (
        GREET, silence(Raw(b"\x55" * 700 + b"\0")), tell(STATUS, b"", OK, status(flags=0, good=2, bad=1)),
    )),
    Case("half a frame spoils only itself", (
        GREET, silence(Raw(framed(u8(STATUS) + bytes(6))[:7] + b"\0")),
        tell(STATUS, b"", OK, status(flags=0, good=2, bad=1)),
    )),
    Case("a frame may come in pieces", (
        silence(Raw(framed(u8(HELLO) + u16(7) + u32(0, 1))[:5])),
        together(Raw(framed(u8(HELLO) + u16(7) + u32(0, 1))[5:]), Answer(HELLO, OK, IDENTITY, tag=7)),
    )),
    Case("several requests in one go are answered in order", (
        GREET, together(
            Ask(ECHO, b"a", tag=1), Ask(STATUS, tag=2), Ask(ECHO, b"", tag=3), Ask(LIMITS, tag=4),
            Answer(ECHO, OK, b"a", tag=1), Answer(STATUS, OK, status(flags=0), tag=2),
            Answer(ECHO, OK, b"", tag=3), Answer(LIMITS, OK, bytes(20), tag=4),
        ),
    )),
    Case("zeros and runs of 254 bytes come through", (
        GREET, *(tell(ECHO, data, OK, data) for data in (bytes(9), b"\x01" * 254, b"\0" + b"\xff" * 254 + b"\0")),
    )),
]  # fmt: skip

# -- session ----------------------------------------------------------------------------------------------------------

EVERY = [  # every op but HELLO and SPEED with a payload of the right length
    (STATUS, b""), (LIMITS, b""), (LIMITS, limits()), (REST, b""), (ECHO, b"x"), (UPLOAD, u16(1, 0) + b"x"),
    (ARM, u16(1, 1) + u32(0)), (FIRE, u16(1) + u32(0)), (FENCE, u16(1)), (ACQUIRE, u16(1) + cells()),
    (FETCH, u16(0, 0, 1)),
]  # fmt: skip

SESSIONS = [
    Case("before HELLO nothing is taken, and the session told is 0", tuple(
        tell(op, payload, WRONG_SESSION, foreign=True) for op, payload in EVERY
    )),
    Case("before HELLO session 0 is no session", tuple(tell(op, payload, WRONG_SESSION) for op, payload in EVERY)),
    Case("under another session nothing is taken", (
        *OPEN, *(tell(op, payload, WRONG_SESSION, foreign=True) for op, payload in EVERY),
        tell(LIMITS, b"", OK, limits()), tell(STATUS, b"", OK, status(good=15)),
    )),
    Case("HELLO is taken under any session, and a later one changes neither session nor limits nor what is armed", (
        *OPEN, *make_ready(PLAIN, 1, 1), tell(HELLO, u32(99), OK, IDENTITY, foreign=True),
        tell(HELLO, u32(0), OK, IDENTITY), tell(STATUS, b"", OK, status(ARMED)), tell(LIMITS, b"", OK, limits()),
        fired(PLAIN, shots=1, started=1, done=1),
    )),
    Case("an unknown command is unknown under any session, with any payload", (
        tell(0x7F, b"", UNKNOWN_OP, foreign=True), tell(0x00, b"abc", UNKNOWN_OP, foreign=True),
        GREET, tell(0x14, b"", UNKNOWN_OP), tell(0x22, b"", UNKNOWN_OP), tell(0x07, bytes(9), UNKNOWN_OP),
        tell(0x14, b"", UNKNOWN_OP, foreign=True), tell(STATUS, b"", OK, status(flags=0, good=8)),
    )),
    Case("the wrong session comes before the wrong length", (
        GREET, tell(FENCE, b"", WRONG_SESSION, foreign=True), tell(STATUS, b"abc", WRONG_SESSION, foreign=True),
    )),
]  # fmt: skip

# -- lengths ----------------------------------------------------------------------------------------------------------

WRONG_LENGTHS = [
    (HELLO, b""), (HELLO, bytes(3)), (HELLO, bytes(5)), (STATUS, b"\0"), (LIMITS, bytes(19)), (LIMITS, bytes(21)),
    (LIMITS, b"\0"), (SPEED, b""), (SPEED, bytes(3)), (SPEED, bytes(5)), (REST, b"\0"), (UPLOAD, b""),
    (UPLOAD, bytes(3)),
    (UPLOAD, u16(1, 0)), (ARM, bytes(7)), (ARM, bytes(9)), (FIRE, bytes(5)), (FIRE, bytes(7)), (FENCE, b""),
    (FENCE, b"\0"), (FENCE, bytes(3)), (ACQUIRE, b""), (ACQUIRE, b"\x01"), (FETCH, bytes(5)), (FETCH, bytes(7)),
]  # fmt: skip

LENGTHS = [
    Case("a payload of the wrong length is malformed", (
        *OPEN, *(tell(op, payload, MALFORMED) for op, payload in WRONG_LENGTHS),
        tell(STATUS, b"", OK, status(good=3 + len(WRONG_LENGTHS))), tell(LIMITS, b"", OK, limits()),
    )),
    Case("the wrong length comes before the wrong number", (
        *OPEN, tell(FENCE, u16(9) + b"\0", MALFORMED), tell(FIRE, u16(9), MALFORMED),
        tell(UPLOAD, u16(9, 0), MALFORMED),
    )),
    Case("HELLO of the wrong length begins no session", (
        tell(HELLO, bytes(3), MALFORMED), tell(STATUS, b"", WRONG_SESSION, foreign=True),
        GREET, tell(STATUS, b"", OK, status(flags=0)),
    )),
]  # fmt: skip

# -- limits, status, speed --------------------------------------------------------------------------------------------

REGISTERS = [
    Case("registers are 0 until they are set, and then told as set", (
        GREET, tell(LIMITS, b"", OK, bytes(20)), tell(STATUS, b"", OK, status(flags=0)), LIMIT_ALL,
        tell(LIMITS, b"", OK, limits()), tell(STATUS, b"", OK, status()),
        tell(LIMITS, b"\xff" * 20, OK, b"\xff" * 20), tell(LIMITS, b"", OK, b"\xff" * 20),
        tell(LIMITS, bytes(20), OK, bytes(20)), tell(LIMITS, b"", OK, bytes(20)),
    )),
    Case("without limits nothing can be armed or acquired", (
        GREET, load(PLAIN), tell(ARM, arm(1, PLAIN), LIMIT, u8(0)), tell(ACQUIRE, u16(1) + cells(), LIMIT, u8(3)),
        tell(FIRE, fire(1, PLAIN), NOT_ARMED), tell(STATUS, b"", OK, status(flags=0)),
    )),
    Case("without limits not even a program of 0 volts is armed: it has a width", (
        GREET, load(pulses(levels=(0, 0, 0, 0))), tell(ARM, arm(1, pulses(levels=(0, 0, 0, 0))), LIMIT, u8(5)),
    )),
    Case("setting limits disarms", (
        *OPEN, *make_ready(PLAIN, 1, 1), tell(STATUS, b"", OK, status(ARMED)), LIMIT_ALL,
        tell(STATUS, b"", OK, status(IDLE)), tell(FIRE, fire(1, PLAIN), NOT_ARMED),
    )),
    Case("asking for the limits does not disarm", (
        *OPEN, *make_ready(PLAIN, 1, 1), tell(LIMITS, b"", OK, limits()), tell(STATUS, b"", OK, status(ARMED)),
    )),
    Case("limits are not set while firing or acquiring, but told", (
        *OPEN, *make_ready(LONG, 1, 5), together(
            Ask(FIRE, fire(1, LONG), tag=1), Wait(700), Ask(LIMITS, limits(line=1), tag=2), Ask(LIMITS, tag=3),
            Ask(REST, tag=4),
            Answer(LIMITS, BUSY, tag=2), Answer(LIMITS, OK, limits(), tag=3),
            Answer(REST, OK, status(STOPPING, fired=1, started=1), tag=4),
            Answer(FIRE, OK, status(IDLE, RESTED, fired=1, in_shot=1, started=1, done=1), tag=1),
        ),
        tell(ACQUIRE, u16(1) + ENDLESS, OK, u16(5)), tell(LIMITS, limits(line=1), BUSY),
        tell(LIMITS, b"", OK, limits()),
        tell(REST, b"", OK, (u8(IDLE, RESTED, LIMITS_SET), 34)), tell(LIMITS, limits(line=1), OK, limits(line=1)),
    )),
    Case("a speed that the board can do is agreed on", (
        *OPEN, tell(SPEED, u32(1_000_000), OK, u32(1_000_000)), tell(ECHO, b"still here", OK, b"still here"),
    )),
    Case("SPEED is taken under any session", (tell(SPEED, u32(3_000_000), OK, u32(3_000_000), foreign=True),)),
    Case("a speed that the board cannot do leaves the present one", (
        tell(SPEED, u32(2_000_000), OK, u32(2_000_000), foreign=True),
        tell(SPEED, u32(4_000_000_000), OK, u32(2_000_000), foreign=True),
        tell(SPEED, u32(0), OK, u32(2_000_000), foreign=True),
    )),
]  # fmt: skip

# -- numbers ----------------------------------------------------------------------------------------------------------

NUMBERS = [
    Case("FENCE takes the next number, and no other", (
        *OPEN, tell(FENCE, u16(2), WRONG_NUMBER), tell(FENCE, u16(65535), WRONG_NUMBER),
        tell(FENCE, u16(1), OK, status(fired=1)), tell(FENCE, u16(3), WRONG_NUMBER), tell(FENCE, u16(0), WRONG_NUMBER),
        tell(FENCE, u16(2), OK, status(fired=2)), tell(STATUS, b"", OK, status(fired=2)),
    )),
    Case("in a new session 0 is nobody's number", (
        *OPEN, tell(FENCE, u16(0), WRONG_NUMBER), tell(FIRE, fire(0, PLAIN), WRONG_NUMBER),
        tell(ACQUIRE, u16(0) + cells(), WRONG_NUMBER), tell(FETCH, u16(0, 0, 1), WRONG_NUMBER),
        tell(STATUS, b"", OK, status()),
    )),
    Case("a FENCE that comes again gets the kept reply, with its old tag", (
        *OPEN, tell(FENCE, u16(1), OK, status(fired=1, good=3), tag=0xAAAA),
        tell(FENCE, u16(1), OK, status(fired=1, good=3), tag=0xBBBB, old=0xAAAA),
        tell(STATUS, b"", OK, status(fired=1, good=5)),
        tell(FENCE, u16(1), OK, status(fired=1, good=3), tag=0xCCCC, old=0xAAAA),
    )),
    Case("a FIRE of a number that a FENCE took is TAKEN", (
        *OPEN, *make_ready(PLAIN, 1, 1), tell(FENCE, u16(1), OK, status(fired=1)),
        tell(FIRE, fire(1, PLAIN), TAKEN, status(fired=1)), tell(STATUS, b"", OK, status(fired=1)),
    )),
    Case("a FENCE of a number that a FIRE took is TAKEN, with what became of it", (
        *OPEN, *make_ready(PLAIN, 1, 1), fired(PLAIN, shots=1, started=1, done=1),
        tell(FENCE, u16(1), TAKEN, status(IDLE, COMPLETE, fired=1, shots=1, started=1, done=1)),
        tell(FENCE, u16(2), OK, status(IDLE, COMPLETE, fired=2, shots=1, started=1, done=1)),
    )),
    Case("FENCE disarms", (
        *OPEN, *make_ready(PLAIN, 1, 1, number=1), tell(FENCE, u16(1), OK, status(fired=1)),
        tell(FIRE, fire(2, PLAIN), NOT_ARMED), tell(STATUS, b"", OK, status(fired=1)),
    )),
    Case("a FIRE that comes again gets the kept reply, with its old tag, and fires nothing", (
        *OPEN, *make_ready(PLAIN, 1, 1),
        tell(FIRE, fire(1, PLAIN), OK, status(IDLE, COMPLETE, fired=1, shots=1, started=1, done=1, good=5), tag=5),
        tell(FIRE, fire(1, PLAIN), OK, status(IDLE, COMPLETE, fired=1, shots=1, started=1, done=1, good=5), tag=6,
             old=5),
        tell(FIRE, fire(1, ONE), OK, status(IDLE, COMPLETE, fired=1, shots=1, started=1, done=1, good=5), tag=7, old=5),
        tell(STATUS, b"", OK, status(IDLE, COMPLETE, fired=1, shots=1, started=1, done=1, good=8)),
    )),
    Case("the kept reply outlives other commands", (
        *OPEN, *make_ready(PLAIN, 1, 1), fired(PLAIN, shots=1, started=1, done=1),
        tell(ECHO, b"abc" * 30, OK, b"abc" * 30), *make_ready(FIVE, 1, 5, number=2), tell(REST, b"", OK, (37,)),
        fired(PLAIN, shots=1, started=1, done=1, good=5),
    )),
    Case("a FIRE that runs is RUNNING when it comes again", (
        *OPEN, *make_ready(LONG, 1, 5), together(
            Ask(FIRE, fire(1, LONG), tag=1), Wait(700), Ask(FIRE, fire(1, LONG), tag=2), Ask(STATUS, tag=3),
            Ask(REST, tag=4),
            Answer(FIRE, RUNNING, tag=2), Answer(STATUS, OK, status(FIRING, fired=1, started=1), tag=3),
            Answer(REST, OK, status(STOPPING, fired=1, started=1), tag=4),
            Answer(FIRE, OK, status(IDLE, RESTED, fired=1, in_shot=1, started=1, done=1), tag=1),
        ),
        tell(FIRE, fire(1, LONG), OK, status(IDLE, RESTED, fired=1, in_shot=1, started=1, done=1), tag=9, old=1),
    )),
    Case("a refused once-command takes no number", (
        *OPEN, tell(FIRE, fire(1, PLAIN), NOT_ARMED), tell(FIRE, fire(2, PLAIN), WRONG_NUMBER),
        tell(STATUS, b"", OK, status(fired=0)), tell(FENCE, u16(1), OK, status(fired=1)),
    )),
    Case("UPLOAD and ARM carry the number of the next FIRE", (
        *OPEN, *(tell(UPLOAD, u16(n, 0) + PLAIN, WRONG_NUMBER) for n in (0, 2, 65535, 0x0100)), load(PLAIN),
        *(tell(ARM, arm(n, PLAIN), WRONG_NUMBER) for n in (0, 2, 65535)), tell(ARM, arm(1, PLAIN), OK, u32(1, 1)),
    )),
    Case("late copies of UPLOAD, ARM and FIRE change nothing once the next program is under way", (
        *OPEN, *make_ready(PLAIN, 1, 1), fired(PLAIN, shots=1, started=1, done=1), *make_ready(FIVE, 1, 5, number=2),
        tell(UPLOAD, u16(1, 0) + PLAIN, WRONG_NUMBER), tell(ARM, arm(1, PLAIN), WRONG_NUMBER),
        fired(PLAIN, shots=1, started=1, done=1),
        tell(STATUS, b"", OK, status(ARMED, COMPLETE, fired=1, shots=1, started=1, done=1)),
        fired(FIVE, number=2, shots=2, started=6, done=6),
    )),
    Case("an ACQUIRE goes 1 to 32767 ahead, and round", (
        *OPEN, tell(ACQUIRE, u16(32768) + cells(mask=b"\0", flags=0), WRONG_NUMBER),
        *(tell(ACQUIRE, u16(n) + cells(mask=b"\0", flags=0), OK, u16(0)) for n in (32767, 65534, 5)),
        tell(STATUS, b"", OK, status(acquired=5)),
        tell(ACQUIRE, u16(32773) + cells(mask=b"\0", flags=0), WRONG_NUMBER),
        tell(ACQUIRE, u16(4) + cells(mask=b"\0", flags=0), WRONG_NUMBER),
        tell(ACQUIRE, u16(32772) + cells(mask=b"\0", flags=0), OK, u16(0)),
    )),
    Case("an ACQUIRE that comes again is answered as before, and nothing is acquired", (
        *OPEN, together(Ask(ACQUIRE, u16(3) + cells()), Wait(1900), Answer(ACQUIRE, OK, u16(5))),
        tell(FETCH, u16(3, 0, 5), OK, fetched(3, 0, 5, DONE, 20)),
        tell(ACQUIRE, u16(3) + cells(), OK, u16(5)), tell(FETCH, u16(3, 0, 5), OK, fetched(3, 0, 5, DONE, 20)),
        tell(ACQUIRE, u16(3) + cells(flags=9), OK, u16(5)), tell(STATUS, b"", OK, status(acquired=3)),
        tell(ACQUIRE, u16(2) + cells(), WRONG_NUMBER),
    )),
    Case("a wrong number comes before BUSY", (
        *OPEN, tell(ACQUIRE, u16(1) + ENDLESS, OK, u16(5)), tell(FENCE, u16(2), WRONG_NUMBER),
        tell(FENCE, u16(1), BUSY), tell(FIRE, fire(2, PLAIN), WRONG_NUMBER), tell(FIRE, fire(1, PLAIN), BUSY),
        tell(STATUS, b"", OK, status(flags=LIMITS_SET | ACQUIRING, acquired=1)),
    )),
]  # fmt: skip

# -- upload, arm, fire ------------------------------------------------------------------------------------------------

FULL = pulses(*[record(b"\0")] * 22, ONE, *[record(b"\0\0", lines=3)] * 6)  # 18 + 23 x 8 + 6 x 9 = 256 bytes
SEVERAL = pulses(ALL, record(b"\x00\x02", 2, 7, 1, 2))
LATER = pulses(record(b"\x10", repeat=2, first=2))
GAPPY = pulses(record(b"\x1f\x7c", lines=3))

LOADING = [
    Case("a program comes in pieces, in any order", (
        *OPEN, tell(UPLOAD, u16(1, 10) + PLAIN[10:], OK, u16(10)), tell(UPLOAD, u16(1, 0) + PLAIN[:10], OK, u16(0)),
        tell(ARM, arm(1, PLAIN), OK, u32(1, 1)), fired(PLAIN, shots=1, started=1, done=1),
    )),
    Case("the memory takes its last byte and not one more", (
        *OPEN, tell(UPLOAD, u16(1, 255) + b"\0", OK, u16(255)), tell(UPLOAD, u16(1, 255) + b"ab", NO_ROOM),
        tell(UPLOAD, u16(1, 256) + b"a", NO_ROOM), tell(UPLOAD, u16(1, 65535) + b"ab", NO_ROOM),
        tell(UPLOAD, u16(1, 0) + bytes(256), OK, u16(0)), tell(UPLOAD, u16(1, 0) + bytes(257), NO_ROOM),
    )),
    Case("an upload that has no room writes nothing", (
        *OPEN, load(PLAIN), tell(UPLOAD, u16(1, 1) + b"\xff" * 256, NO_ROOM), tell(ARM, arm(1, PLAIN), OK, u32(1, 1)),
    )),
    Case("a length beyond the memory has no room", (
        *OPEN, load(PLAIN), tell(ARM, u16(1, 257) + u32(0), NO_ROOM), tell(ARM, u16(1, 65535) + u32(0), NO_ROOM),
    )),
    Case("what was not loaded as told has another CRC", (
        *OPEN, load(PLAIN), tell(ARM, arm(1, LONG), BAD_CRC), tell(ARM, u16(1, len(PLAIN) - 1) + u32(0), BAD_CRC),
        tell(ARM, u16(1, 256) + u32(1), BAD_CRC), tell(ARM, arm(1, PLAIN), OK, u32(1, 1)),
    )),
    Case("an upload at 0 disarms, one elsewhere is refused while armed", (
        *OPEN, *make_ready(PLAIN, 1, 1), tell(UPLOAD, u16(1, 1) + b"\xff", BUSY),
        tell(UPLOAD, u16(1, 255) + b"\xff", BUSY), tell(STATUS, b"", OK, status(ARMED)),
        tell(UPLOAD, u16(1, 0) + b"\x01", OK, u16(0)), tell(STATUS, b"", OK, status(IDLE)),
        tell(FIRE, fire(1, PLAIN), NOT_ARMED), tell(ARM, arm(1, PLAIN), OK, u32(1, 1)),
        fired(PLAIN, shots=1, started=1, done=1),
    )),
    Case("the memory keeps its bytes over a FIRE, but the next FIRE has to be armed", (
        *OPEN, *make_ready(PLAIN, 1, 1), fired(PLAIN, shots=1, started=1, done=1),
        tell(FIRE, fire(2, PLAIN), NOT_ARMED), tell(ARM, arm(2, PLAIN), OK, u32(1, 1)),
        fired(PLAIN, number=2, shots=2, started=2, done=2),
    )),
    Case("FIRE with another CRC than the armed one is refused, and what is armed stays", (
        *OPEN, *make_ready(PLAIN, 1, 1), tell(FIRE, fire(1, LONG), NOT_ARMED), tell(STATUS, b"", OK, status(ARMED)),
        fired(PLAIN, shots=1, started=1, done=1),
    )),
    Case("a refused ARM leaves the board disarmed", (
        *OPEN, *make_ready(PLAIN, 1, 1), tell(ARM, arm(1, LONG), BAD_CRC), tell(STATUS, b"", OK, status(IDLE)),
        tell(FIRE, fire(1, PLAIN), NOT_ARMED), tell(ARM, arm(1, PLAIN), OK, u32(1, 1)),
        tell(ARM, u16(1, 300) + u32(0), NO_ROOM), tell(FIRE, fire(1, PLAIN), NOT_ARMED),
    )),
    Case("an ARM of another number leaves what is armed", (
        *OPEN, *make_ready(PLAIN, 1, 1), tell(ARM, arm(2, PLAIN), WRONG_NUMBER), tell(STATUS, b"", OK, status(ARMED)),
    )),
    Case("an ARM of the wrong length leaves what is armed", (
        *OPEN, *make_ready(PLAIN, 1, 1), tell(ARM, arm(1, PLAIN) + b"\0", MALFORMED),
        tell(STATUS, b"", OK, status(ARMED)),
        fired(PLAIN, shots=1, started=1, done=1),
    )),
    Case("ARM may come again", (
        *OPEN, *make_ready(PLAIN, 1, 1),
        tell(ARM, arm(1, PLAIN), OK, u32(1, 1)), fired(PLAIN, shots=1, started=1, done=1),
    )),
    Case("a program fills the memory to its last byte", (
        *OPEN, *make_ready(FULL, 1, 1), fired(FULL, shots=1, started=1, done=1),
    )),
    Case("shots and pulses of several records are counted through the session", (
        *OPEN, *make_ready(SEVERAL, 4, 10), fired(SEVERAL, shots=4, started=10, done=10),
        *make_ready(LATER, 1, 2, number=2), fired(LATER, number=2, shots=5, started=12, done=12),
    )),
    Case("a program without records is armed and fires nothing", (
        *OPEN, *make_ready(pulses(), 0, 0), fired(pulses()),
    )),
    Case("lines without a bit have no shot", (
        *OPEN, *make_ready(GAPPY, 2, 2), fired(GAPPY, shots=2, started=2, done=2),
    )),
    Case("while firing nothing is loaded, armed, fenced or acquired", (
        *OPEN, *make_ready(LONG, 1, 5), together(
            Ask(FIRE, fire(1, LONG), tag=1), Wait(700), Ask(UPLOAD, u16(2, 0) + b"x", tag=2),
            Ask(UPLOAD, u16(1, 0) + b"x", tag=3), Ask(ARM, arm(2, LONG), tag=4), Ask(FENCE, u16(2), tag=5),
            Ask(ACQUIRE, u16(1) + cells(), tag=6), Ask(FIRE, fire(2, LONG), tag=9), Ask(REST, tag=7),
            Ask(FENCE, u16(1), tag=8), Answer(FIRE, BUSY, tag=9),
            Answer(UPLOAD, BUSY, tag=2), Answer(UPLOAD, WRONG_NUMBER, tag=3), Answer(ARM, BUSY, tag=4),
            Answer(FENCE, BUSY, tag=5), Answer(ACQUIRE, BUSY, tag=6),
            Answer(REST, OK, status(STOPPING, fired=1, started=1), tag=7),
            Answer(FENCE, TAKEN, status(STOPPING, fired=1, started=1), tag=8),
            Answer(FIRE, OK, status(IDLE, RESTED, fired=1, in_shot=1, started=1, done=1), tag=1),
        ),
        tell(STATUS, b"", OK, status(IDLE, RESTED, fired=1, in_shot=1, started=1, done=1)),
    )),
    Case("while firing HELLO, ECHO and FETCH are answered", (
        *OPEN, *make_ready(LONG, 1, 5), together(
            Ask(FIRE, fire(1, LONG), tag=1), Wait(700), Ask(HELLO, u32(5), tag=2), Ask(ECHO, b"still", tag=3),
            Ask(FETCH, u16(9, 0, 1), tag=4), Ask(REST, tag=5),
            Answer(HELLO, OK, IDENTITY, tag=2), Answer(ECHO, OK, b"still", tag=3), Answer(FETCH, WRONG_NUMBER, tag=4),
            Answer(REST, OK, status(STOPPING, fired=1, started=1), tag=5),
            Answer(FIRE, OK, status(IDLE, RESTED, fired=1, in_shot=1, started=1, done=1), tag=1),
        ),
    )),
    Case("while acquiring a program may be loaded and armed, and not fired", (
        *OPEN, tell(ACQUIRE, u16(1) + ENDLESS, OK, u16(5)), *make_ready(PLAIN, 1, 1), tell(FIRE, fire(1, PLAIN), BUSY),
        tell(REST, b"", OK, status(acquired=1)), tell(FIRE, fire(1, PLAIN), NOT_ARMED), *make_ready(PLAIN, 1, 1),
        fired(PLAIN, acquired=1, shots=1, started=1, done=1),
    )),
]  # fmt: skip

# -- programs that are none -------------------------------------------------------------------------------------------


def _gap(ticks_more: int) -> Step:
    def program(identity: Identity) -> bytes:
        return pulses(ONE, gap=identity.min_gap + ticks_more)

    return Step((
        Ask(UPLOAD, lambda identity: u16(1, 0) + program(identity)),
        Ask(ARM, lambda identity: arm(1, program(identity))),
    ), (Answer(UPLOAD, OK, u16(0)), Answer(ARM, *((MALFORMED,) if ticks_more < 0 else (OK, u32(1, 1))))))  # fmt: skip


def _period(ticks_more: int) -> Step:
    def program(identity: Identity) -> bytes:
        return waves((0, 0, 0, 0), period=identity.min_period + ticks_more)

    return Step((
        Ask(UPLOAD, lambda identity: u16(1, 0) + program(identity)),
        Ask(ARM, lambda identity: arm(1, program(identity))),
    ), (Answer(UPLOAD, OK, u16(0)), Answer(ARM, *((MALFORMED,) if ticks_more < 0 else (OK, u32(1, 1))))))  # fmt: skip


PROGRAMS = [
    Case("no bytes are no program", (*OPEN, tell(ARM, arm(1, b""), MALFORMED))),
    refused("kind 0 is no program", b"\x00" + PLAIN[1:]),
    refused("kind 3 is a read and no program to fire", cells()),
    refused("axis 2 is none", pulses(ONE, axis=2)),
    refused("sign 0 is none", pulses(record(b"\x01", sign=0))),
    refused("sign 3 is none", pulses(record(b"\x01", sign=3))),
    refused("repeat 0 is none", pulses(record(b"\x01", repeat=0))),
    refused("0 lines are none", pulses(record(b"", lines=0))),
    refused("a line beyond the array", pulses(record(b"\x01", first=3))),
    refused("lines beyond the array", pulses(record(b"\xff\x03", first=2, lines=2))),
    refused("lines far beyond the array, round 65536", pulses(record(b"\x01", first=65535, lines=1))),
    refused("first + lines is not taken round 65536", pulses(record(b"\xff\x03", first=65535, lines=2))),
    refused("a line beyond the array's columns", pulses(record(b"\x01", first=5), axis=1)),
    refused("a filling bit is set", pulses(record(b"\x21"))),
    refused("a filling bit is set after several lines", pulses(record(b"\xff\xff", lines=3))),
    refused("a filling bit is set across the other axis", pulses(record(b"\x09"), axis=1)),
    refused("an end inside a mask", pulses(record(b"\xff", lines=3))),
    refused("an end inside a record's head", pulses(ONE) + record(b"")[:4]),
    refused("an end before the mask", pulses(ONE, record(b""))),
    refused("a byte too many", pulses(ONE) + b"\0"),
    refused("an end inside the levels", PLAIN[:17]),
    refused("one byte", b"\x01"),
    refused("the last of many records is wrong", pulses(*[ONE] * 20, record(b"\x01", sign=7))),
    refused("malformed comes before a limit", pulses(record(b"\x01", sign=9), levels=(401, 0, 0, 0))),
    Case("a gap of min_gap is taken, one tick less is malformed", (*OPEN, _gap(0), _gap(-1))),
    taken("both signs, both ends of the array", pulses(record(b"\x11"), record(b"\x11", 2, 3, 2)), 2, 4),
    taken("columns as lines", pulses(record(b"\xff\x7f", lines=5), axis=1), 5, 5),
    taken("a line's bits begin inside a byte: 5 columns of 3 bits", pulses(record(b"\x00\x40", lines=5), axis=1), 1, 1),
    taken("many pulses", pulses(record(b"\xff\x7f", repeat=65535, lines=3), record(b"\x01", 2, 65535)), 4, 4 * 65535),
    Case("waves: a period of min_period is taken, one tick less is malformed", (*OPEN, _period(0), _period(-1))),
    refused("waves: 3 is no channel of a row", waves((0, 0, 0, 0), rows=b"\x03")),
    refused("waves: 3 is no channel of the last row", waves((0, 0, 0, 0), rows=b"\x30")),
    refused("waves: 3 is no channel of the last column", waves((0, 0, 0, 0), cols=b"\x00\x03")),
    refused("waves: a filling bit of the rows", waves((0, 0, 0, 0), rows=b"\x40")),
    refused("waves: a filling bit of the columns", waves((0, 0, 0, 0), cols=b"\x00\x04")),
    refused("waves: no samples", waves()),
    refused("waves: an end inside a sample", waves((0, 0, 0, 0)) + b"\0" * 7),
    refused("waves: an end inside the channels", waves()[:7]),
    taken("waves are one shot of one pulse", waves(*[(10, 0, 0, -10)] * 10), 1, 1),
    taken("waves: every line on its last channel", waves((1, 1, 1, 1), rows=b"\x2a", cols=b"\xaa\x02"), 1, 1),
]  # fmt: skip

# -- limits -----------------------------------------------------------------------------------------------------------

WIDE = {"cell": 65535, "victim": 65535}
DEEP = (32767, 0, -32767, 0)

EDGES = [
    over("one code over max_line on a selected row", pulses(ONE, levels=(401, 201, 1, 201)), 0),
    over("one code over max_line on an unselected row", pulses(ONE, levels=(0, -401, 0, 0)), 0, **WIDE),
    over("one code over max_line on a selected column", pulses(ONE, levels=(0, 0, -401, 0)), 0, **WIDE),
    over("one code over max_line on an unselected column", pulses(ONE, levels=(0, 0, 0, 401)), 0, **WIDE),
    taken("all lines at max_line", pulses(ONE, levels=(400, -400, -400, 400)), 1, 1, limits(**WIDE),
          also=(CHIP,)),
    over("one code over max_cell", pulses(ONE, levels=(200, 0, -201, 0)), 1, victim=401),
    over("one code over max_cell, the other way", pulses(ONE, levels=(-201, 0, 200, 0)), 1, victim=401),
    over("one code over max_victim: selected row, unselected column", pulses(ONE, levels=(400, 200, 0, 199)), 2),
    over("one code over max_victim: unselected row, selected column", pulses(ONE, levels=(400, 201, 0, 201)), 2),
    over("one code over max_victim: both unselected", pulses(ONE, levels=(0, 101, 0, -100)), 2),
    taken("both unselected at max_victim", pulses(ONE, levels=(0, 100, 0, -100)), 1, 1),
    over("a program without records is checked too", pulses(levels=(401, 201, 1, 201)), 0),
    over("differences do not go round 65536", pulses(ONE, levels=DEEP), 1, line=32767, cell=65533, victim=65535),
    taken("the largest difference of all", pulses(ONE, levels=DEEP), 1, 1, limits(line=32767, cell=65534, victim=65535),
          also=(CHIP,)),
    over("a victim of the largest difference", pulses(ONE, levels=(0, 32767, 0, -32767)), 2, line=32767, victim=65533),
    over("a level beyond pulse_max, whatever max_line says", pulses(ONE, levels=(-32768, 0, 0, 0)), 0, line=65535,
         **WIDE),
    over("waves: a level beyond pulse_max, whatever max_line says", waves((0, 0, -32768, 0)), 0, line=65535, **WIDE),
    over("one tick under min_width", pulses(ONE, width=99), 4),
    over("one tick over max_width", pulses(ONE, width=3_000_001), 5),
    taken("at max_width", pulses(ONE, width=3_000_000), 1, 1),
    over("width 0 is under every min_width", pulses(ONE, width=0), 4),
    over("half of the watchdog", pulses(ONE, width=10_000), 6, watchdog=20_000),
    taken("just under half of the watchdog", pulses(ONE, width=9_999), 1, 1, limits(watchdog=20_000)),
    over("over half of an odd watchdog", pulses(ONE, width=10_001), 6, watchdog=20_001),
    taken("under half of an odd watchdog", pulses(ONE, width=10_000), 1, 1, limits(watchdog=20_001)),
    over("the lowest index is told: a line before a cell", pulses(ONE, levels=(401, 0, -400, 0)), 0),
    over("the lowest index is told: a cell before a victim", pulses(ONE, levels=(400, 0, -1, 0)), 1),
    over("the lowest index is told: a victim before the width", pulses(ONE, width=1, levels=(300, 0, 0, 0)), 2),
    over("the lowest index is told: the width before the watchdog", pulses(ONE, width=4_000_000), 5, watchdog=1000),
    over("waves: row A over max_line", waves((401, 0, 1, 1)), 0),
    over("waves: column B over max_line, in the last sample", waves((0, 0, 0, 0), (0, 0, 0, -401)), 0),
    over("waves: a channel that no line uses is checked too", waves((0, 0, 0, 401), rows=b"\0", cols=b"\0\0"), 0),
    taken("waves: all channels at max_line", waves((400, 400, 400, 400)), 1, 1, also=(CHIP,)),
    over("waves: row A against column B over max_cell", waves((200, 0, 0, -201)), 1),
    over("waves: row B against column A over max_cell", waves((0, -201, 200, 0)), 1),
    over("waves: a row against ground over max_cell", waves((0, 301, 0, 0)), 1, cell=300),
    over("waves: a column against ground over max_cell", waves((0, 0, 301, 0)), 1, cell=300),
    taken("waves: at max_cell", waves((200, -200, 200, -200)), 1, 1, also=(CHIP,)),
    taken("waves: two rows do not make a cell", waves((400, -400, 0, 0)), 1, 1, also=(CHIP,)),
    over("waves: samples x period over max_width", waves(*[(0, 0, 0, 0)] * 7, period=500_000), 5),
    taken("waves: samples x period at max_width", waves(*[(0, 0, 0, 0)] * 6, period=500_000), 1, 1),
    over("waves: samples x period does not go round", waves(*[(0, 0, 0, 0)] * 4, period=0x4000_0001), 5),
    over("waves: half of the watchdog", waves(*[(0, 0, 0, 0)] * 2, period=5_000), 6, watchdog=20_000),
    taken("waves: min_width is not asked", waves((0, 0, 0, 0)), 1, 1, limits(least=1_000_000)),
]  # fmt: skip

# -- rest, silence ----------------------------------------------------------------------------------------------------

ENDS = [
    Case("waves are fired as one shot", (
        *OPEN, *make_ready(waves((10, 0, 0, -10), (0, 0, 0, 0), (-10, 0, 0, 10)), 1, 1),
        fired(waves((10, 0, 0, -10), (0, 0, 0, 0), (-10, 0, 0, 10)), shots=1, started=1, done=1),
    )),
    Case("REST disarms", (
        *OPEN, *make_ready(PLAIN, 1, 1), tell(REST, b"", OK, status(IDLE)), tell(FIRE, fire(1, PLAIN), NOT_ARMED),
    )),
    Case("REST of a board at rest changes nothing", (
        *OPEN, tell(REST, b"", OK, status()), tell(REST, b"", OK, status()), tell(LIMITS, b"", OK, limits()),
    )),
    Case("REST lets a short pulse go on to its end, and begins no other", (
        *OPEN, *make_ready(LONG, 1, 5), together(
            Ask(FIRE, fire(1, LONG), tag=1), Wait(700), Ask(REST, tag=2), Ask(STATUS, tag=3),
            Answer(REST, OK, status(STOPPING, fired=1, started=1), tag=2),
            Answer(STATUS, OK, status(STOPPING, fired=1, started=1), tag=3),
            Answer(FIRE, OK, status(IDLE, RESTED, fired=1, in_shot=1, started=1, done=1), tag=1),
        ),
        tell(FENCE, u16(2), OK, status(IDLE, RESTED, fired=2, in_shot=1, started=1, done=1)),
    )),
    Case("REST cuts a pulse off that has more than 20 ms to go; it stays counted as begun", (
        *OPEN, *make_ready(SLOW, 1, 1), together(
            Ask(FIRE, fire(1, SLOW), tag=1), Wait(700), Ask(REST, tag=2),
            Answer(REST, OK, (1 + 1 + 1 + 2 + 2 + 4 + 2, u32(1, 0), 16), tag=2),
            Answer(FIRE, OK, status(IDLE, CUT, fired=1, started=1), tag=1),
        ),
        tell(STATUS, b"", OK, status(IDLE, CUT, fired=1, started=1)), *make_ready(PLAIN, 1, 1, number=2),
        fired(PLAIN, number=2, shots=1, started=2, done=1),
    )),
    Case("REST in the last pulse of all lets it be completed, and is told all the same", (
        *OPEN, *make_ready(LAST, 1, 1), together(
            Ask(FIRE, fire(1, LAST), tag=1), Wait(700), Ask(REST, tag=2),
            Answer(REST, OK, status(STOPPING, fired=1, started=1), tag=2),
            Answer(FIRE, OK, status(IDLE, RESTED, fired=1, shots=1, started=1, done=1), tag=1),
        ),
    )),
    Case("REST in the second shot tells what was completed of it", (
        *OPEN, *make_ready(TWICE, 2, 4), together(
            Ask(FIRE, fire(1, TWICE), tag=1), Wait(2800), Ask(REST, tag=2),
            Answer(REST, OK, status(STOPPING, fired=1, shots=1, started=2, done=1), tag=2),
            Answer(FIRE, OK, status(IDLE, RESTED, fired=1, shots=1, in_shot=1, started=2, done=2), tag=1),
        ),
    )),
    Case("a new FIRE forgets what was completed of the last one", (
        *OPEN, *make_ready(LONG, 1, 5), together(
            Ask(FIRE, fire(1, LONG), tag=1), Wait(700), Ask(REST, tag=2),
            Answer(REST, OK, status(STOPPING, fired=1, started=1), tag=2),
            Answer(FIRE, OK, status(IDLE, RESTED, fired=1, in_shot=1, started=1, done=1), tag=1),
        ),
        *make_ready(PLAIN, 1, 1, number=2), fired(PLAIN, number=2, shots=1, started=2, done=2),
    )),
    Case("REST stops an acquisition at once", (
        *OPEN, tell(ACQUIRE, u16(1) + ENDLESS, OK, u16(5)),
        tell(STATUS, b"", OK, status(flags=LIMITS_SET | ACQUIRING, acquired=1)),
        tell(REST, b"", OK, status(acquired=1)),
        tell(FETCH, u16(1, 0, 5), OK, fetched(1, 0, 0, STOPPED, 0)),
        tell(FENCE, u16(1), OK, status(fired=1, acquired=1)),
    )),
    Case("a silent host stops the firing, between two pulses", (
        GREET, tell(LIMITS, limits(watchdog=5_000), OK, limits(watchdog=5_000)),
        *make_ready(PATIENT, 1, 5), tell(FIRE, fire(1, PATIENT), OK,
             status(IDLE, WATCHDOG, LIMITS_SET | TRIPPED, fired=1, in_shot=3, started=3, done=3)),
        tell(STATUS, b"", OK, status(IDLE, WATCHDOG, LIMITS_SET | TRIPPED, fired=1, in_shot=3, started=3, done=3)),
    )),
    Case("a host that asks keeps it firing", (
        GREET, tell(LIMITS, limits(watchdog=5_000), OK, limits(watchdog=5_000)),
        *make_ready(PATIENT, 1, 5), together(
            Ask(FIRE, fire(1, PATIENT), tag=1), Wait(3_200),
            Ask(ECHO, b"", tag=2), Answer(ECHO, OK, b"", tag=2),
            Answer(FIRE, OK, status(IDLE, COMPLETE, fired=1, shots=1, started=5, done=5), tag=1),
        ),
    )),
    Case("a request under another session does not count as a sign of life", (
        GREET, tell(LIMITS, limits(watchdog=5_000), OK, limits(watchdog=5_000)),
        *make_ready(PATIENT, 1, 5), together(
            Ask(FIRE, fire(1, PATIENT), tag=1), Wait(3_200),
            Ask(ECHO, b"", tag=2, foreign=True), Answer(ECHO, WRONG_SESSION, b"", tag=2),
            Answer(FIRE, OK, status(IDLE, WATCHDOG, LIMITS_SET | TRIPPED, fired=1, in_shot=3, started=3, done=3),
                   tag=1),
        ),
    )),
    Case("a silent host stops an acquisition", (
        GREET, tell(LIMITS, limits(watchdog=5_000), OK, limits(watchdog=5_000)), together(
            Ask(ACQUIRE, u16(1) + ENDLESS, tag=1), Wait(5_300), Ask(STATUS, tag=2), Ask(FETCH, u16(1, 0, 5), tag=3),
            Answer(ACQUIRE, OK, u16(5), tag=1),
            Answer(STATUS, OK, status(flags=LIMITS_SET | TRIPPED, acquired=1), tag=2),
            Answer(FETCH, OK, fetched(1, 0, 0, STOPPED, 0), tag=3),
        ),
    )),
    Case("silence while nothing happens harms nobody", (
        GREET, tell(LIMITS, limits(watchdog=2_000), OK, limits(watchdog=2_000)), *make_ready(PLAIN, 1, 1),
        together(Wait(2_200), Ask(STATUS, tag=1), Answer(STATUS, OK, status(ARMED), tag=1)),
        fired(PLAIN, shots=1, started=1, done=1),
    )),
]  # fmt: skip

# -- reads ------------------------------------------------------------------------------------------------------------

HOT = vectors(1, i16(100, -100, 5000), region=(0, 3, 0, 5))

READS = [
    reads("one line of cells", cells(), 5),
    reads("a line of cells at both polarities", cells(flags=9), 10, levels=2),
    reads("chosen cells of two lines", cells(mask=b"\x25\x02", flags=0, region=(0, 2, 0, 5)), 4, levels=2),
    reads("a region with an offset", cells(flags=0, mask=b"\x06", region=(1, 2, 2, 2)), 2, levels=2),
    reads("cells in samples of 2 bytes", cells(width=2), 5, 2),
    reads("cells in samples of 3 bytes, several conversions each", cells(width=3, averages=3), 5, 3, levels=2),
    reads("a negative level", cells(level=-5000), 5),
    reads("one cell", cells(region=(2, 1, 4, 1)), 1),
    reads("no cells", cells(flags=0, mask=b"\x00"), 0),
    reads("a vector from rows to columns", HOT, 5),
    reads("two vectors at both polarities", vectors(2, i16(1, 2, 3, 4, 5, 6), 1, region=(0, 3, 0, 5)), 20, levels=4),
    reads("a vector from columns to rows", vectors(1, i16(1, 2, 3, 4, 5), 2, region=(0, 3, 0, 5)), 3),
    reads("a part of the array, from columns to rows", vectors(1, i16(1, 2), 2, region=(1, 2, 3, 2)), 2),
    reads("a vector with idle lines floating", vectors(1, i16(7), 4, region=(1, 1, 1, 3)), 3),
    reads("a vector of zeros", vectors(1, i16(0, 0, 0), region=(0, 3, 0, 5)), 5),
    acquired("read kind 1 is none", PLAIN, MALFORMED),
    acquired("read kind 5 is none", u8(5) + cells()[1:], MALFORMED),
    acquired("no read program at all", b"", MALFORMED),
    acquired("an end inside the head", cells()[:16], MALFORMED),
    acquired("an end before the level", cells()[:17], MALFORMED),
    acquired("samples of 1 byte", cells(width=1), MALFORMED),
    acquired("samples of 5 bytes", cells(width=5), MALFORMED),
    acquired("0 averages", cells(averages=0), MALFORMED),
    acquired("0 rows", cells(region=(0, 0, 0, 5)), MALFORMED),
    acquired("0 columns", cells(region=(0, 1, 0, 0)), MALFORMED),
    acquired("rows beyond the array", cells(region=(2, 2, 0, 5)), MALFORMED),
    acquired("columns beyond the array", cells(region=(0, 1, 1, 5)), MALFORMED),
    acquired("a region round 65536", cells(region=(65535, 2, 0, 5)), MALFORMED),
    acquired("cells from columns to rows", cells(flags=8 | 2), MALFORMED),
    acquired("cells with lines floating", cells(flags=8 | 4), MALFORMED),
    acquired("cells with a flag of no meaning", cells(flags=8 | 16), MALFORMED),
    acquired("vectors with a flag of no meaning", vectors(1, i16(1, 2, 3), 128, region=(0, 3, 0, 5)), MALFORMED),
    acquired("a mask where there is none", cells(mask=b"\x1f"), MALFORMED),
    acquired("no mask where there is one", cells(flags=0), MALFORMED),
    acquired("a mask that is too short", cells(flags=0, mask=b"\xff", region=(0, 2, 0, 5)), MALFORMED),
    acquired("a mask that is too long", cells(flags=0, mask=b"\x1f\x00"), MALFORMED),
    acquired("a filling bit in the mask", cells(flags=0, mask=b"\x3f"), MALFORMED),
    acquired("a vector of all cells", vectors(1, i16(1, 2, 3), 8, region=(0, 3, 0, 5)), MALFORMED),
    acquired("0 vectors", vectors(0, b"", region=(0, 3, 0, 5)), MALFORMED),
    acquired("a vector that is too short", vectors(1, i16(1, 2), region=(0, 3, 0, 5)), MALFORMED),
    acquired("a vector that is too long", vectors(1, i16(1, 2, 3, 4), region=(0, 3, 0, 5)), MALFORMED),
    acquired("half a level", vectors(1, i16(1, 2, 3)[:5], region=(0, 3, 0, 5)), MALFORMED),
    acquired("as many levels as outputs, not as inputs", vectors(1, i16(1, 2, 3), 2, region=(0, 3, 0, 5)), MALFORMED),
    acquired("an end before the vectors", read(4, 0), MALFORMED),
    acquired("a read program beyond the read memory", vectors(56, i16(*[1] * 56), region=(0, 1, 0, 1)), NO_ROOM),
    acquired("more samples than the memory has", vectors(13, i16(*[1] * 13), region=(0, 1, 0, 5)), NO_ROOM),
    acquired("more samples than the memory has, at both polarities",
             vectors(7, i16(*[1] * 7), 1, region=(0, 1, 0, 5)), NO_ROOM),
    acquired("no room comes before a limit", vectors(13, i16(*[9000] * 13), region=(0, 1, 0, 5)), NO_ROOM),
    acquired("malformed comes before no room", vectors(13, i16(*[1] * 12), region=(0, 1, 0, 5)), MALFORMED),
    acquired("one code over max_read", cells(level=5001), LIMIT, u8(3)),
    acquired("one code over max_read, negative", cells(level=-5001), LIMIT, u8(3)),
    acquired("the last of a vector over max_read", vectors(1, i16(0, 0, 5001), region=(0, 3, 0, 5)), LIMIT, u8(3)),
    acquired("the largest level of all", cells(level=-32768), LIMIT, u8(3)),
    Case("a level beyond read_max, whatever max_read says", (
        GREET, tell(LIMITS, limits(read=65535), OK, limits(read=65535)),
        tell(ACQUIRE, u16(1) + cells(level=-32768), LIMIT, u8(3)),
    )),
    Case("without limits nothing is read, not even at 0 V", (
        GREET, tell(ACQUIRE, u16(1) + cells(level=0), LIMIT, u8(3)), tell(FETCH, u16(1, 0, 1), WRONG_NUMBER),
    )),
    Case("an ACQUIRE that is refused stops none that is under way", (
        *OPEN, tell(ACQUIRE, u16(1) + ENDLESS, OK, u16(5)), tell(ACQUIRE, u16(2) + cells(level=5001), LIMIT, u8(3)),
        tell(ACQUIRE, u16(2) + cells(width=9), MALFORMED),
        tell(STATUS, b"", OK, status(flags=LIMITS_SET | ACQUIRING, acquired=1)),
    )),
    Case("max_read itself is taken", (
        *OPEN, tell(ACQUIRE, u16(1) + cells(level=5000), OK, u16(5)),
        tell(ACQUIRE, u16(2) + cells(level=-5000), OK, u16(5)),
    )),
    Case("as many samples as the memory has", (
        *OPEN, tell(ACQUIRE, u16(1) + vectors(16, i16(*[1] * 16), region=(0, 1, 0, 4)), OK, u16(64)),
    )),
    Case("a read program that just fits", (
        *OPEN, tell(ACQUIRE, u16(1) + vectors(54, i16(*[1] * 54), region=(0, 1, 0, 1)), OK, u16(54)),
    )),
    Case("a refused ACQUIRE leaves the acquisition before it as it was", (
        *OPEN, together(Ask(ACQUIRE, u16(1) + cells()), Wait(1900), Answer(ACQUIRE, OK, u16(5))),
        tell(ACQUIRE, u16(2) + cells(level=5001), LIMIT, u8(3)), tell(FETCH, u16(2, 0, 5), WRONG_NUMBER),
        tell(FETCH, u16(1, 0, 5), OK, fetched(1, 0, 5, DONE, 20)),
        together(Ask(ACQUIRE, u16(2) + cells(flags=9)), Wait(3000), Answer(ACQUIRE, OK, u16(10))),
        tell(FETCH, u16(2, 0, 10), OK, fetched(2, 0, 10, DONE, 40)),
    )),
    Case("a new ACQUIRE replaces one that is under way", (
        *OPEN, tell(ACQUIRE, u16(1) + ENDLESS, OK, u16(5)),
        together(Ask(ACQUIRE, u16(2) + cells(region=(0, 1, 0, 3))), Wait(1900), Answer(ACQUIRE, OK, u16(3))),
        tell(FETCH, u16(1, 0, 5), WRONG_NUMBER), tell(FETCH, u16(2, 0, 5), OK, fetched(2, 0, 3, DONE, 12)),
        tell(STATUS, b"", OK, status(acquired=2)),
    )),
    Case("FETCH gives windows of what is there", (
        *OPEN, together(Ask(ACQUIRE, u16(1) + cells(width=2)), Wait(1900), Answer(ACQUIRE, OK, u16(5))),
        tell(FETCH, u16(1, 0, 2), OK, fetched(1, 0, 5, DONE, 4)),
        tell(FETCH, u16(1, 2, 2), OK, fetched(1, 2, 5, DONE, 4)),
        tell(FETCH, u16(1, 4, 9), OK, fetched(1, 4, 5, DONE, 2)),
        tell(FETCH, u16(1, 5, 1), OK, fetched(1, 5, 5, DONE, 0)),
        tell(FETCH, u16(1, 65535, 65535), OK, fetched(1, 65535, 5, DONE, 0)),
        tell(FETCH, u16(1, 0, 0), OK, fetched(1, 0, 5, DONE, 0)),
        tell(FETCH, u16(1, 3, 65535), OK, fetched(1, 3, 5, DONE, 4)),
    )),
    Case("FETCH asks for the last number", (
        *OPEN, tell(FETCH, u16(1, 0, 1), WRONG_NUMBER), tell(ACQUIRE, u16(7) + cells(), OK, u16(5)),
        tell(FETCH, u16(6, 0, 1), WRONG_NUMBER), tell(FETCH, u16(8, 0, 1), WRONG_NUMBER),
    )),
    Case("FETCH answers at once while conversions go on", (
        *OPEN, tell(ACQUIRE, u16(1) + ENDLESS, OK, u16(5)), tell(FETCH, u16(1, 0, 5), OK, fetched(1, 0, 0, 0, 0)),
        tell(STATUS, b"", OK, status(flags=LIMITS_SET | ACQUIRING, acquired=1)),
    )),
    Case("samples stay while a program is fired", (
        *OPEN, together(Ask(ACQUIRE, u16(1) + cells(width=3)), Wait(1900), Answer(ACQUIRE, OK, u16(5))),
        *make_ready(PLAIN, 1, 1), fired(PLAIN, acquired=1, shots=1, started=1, done=1),
        tell(FETCH, u16(1, 1, 3), OK, fetched(1, 1, 5, DONE, 9)),
    )),
    Case("ACQUIRE leaves what is armed", (
        *OPEN, *make_ready(PLAIN, 1, 1),
        together(Ask(ACQUIRE, u16(1) + cells()), Wait(1900), Answer(ACQUIRE, OK, u16(5))),
        tell(STATUS, b"", OK, status(ARMED, acquired=1)), fired(PLAIN, acquired=1, shots=1, started=1, done=1),
    )),
]  # fmt: skip

CASES: list[Case] = [*FRAMES, *SESSIONS, *LENGTHS, *REGISTERS, *NUMBERS, *LOADING, *PROGRAMS, *EDGES, *ENDS, *READS]

# -- complete frames --------------------------------------------------------------------------------------------------

# op, tag, session, payload, and the bytes on the line; made with a COBS and a CRC-32 of no library.
LINES: list[tuple[int, int, int, bytes, str]] = [
    (STATUS, 0x1, 0x0, b"", "0302010101010105f21dafc100"),
    (HELLO, 0x1234, 0x0, b"4\x12\xed^", "04013412010101093412ed5e23cfcf4e00"),
    (LIMITS, 0xFFFF, 0xDEADBEEF, b"", "0c03ffffefbeaddea0163ab900"),
    (SPEED, 0x0, 0x1, b"@B\x0f\x00", "020401020101010440420f05acdf667800"),
    (FENCE, 0x100, 0x10000, b"\x01\x00", "021302010102010201058a37947400"),
    (FIRE, 0x7, 0x1020304, b"\x01\x00\xef\xbe\xad\xde", "03120706040302010109efbeadde4c40c18b00"),
    (ECHO, 0x2, 0x1010101, b"\x01" * 247, "030602ff" + "01" * 251 + "c4c11a029600"),
    (FETCH, 0x9, 0x11223344, b"\x01\x00\x00\x00\x05\x00", "03210906443322110101010205051f6009b000"),
]

# The line, and what it says: op, tag, session, status, payload.
REPLIES: list[tuple[str, int, int, int, int, bytes]] = [
    ("03860305efbeadde05ac06ac5800", ECHO, 0x3, 0xDEADBEEF, OK, b""),
    ("0290030101010101010105b5ebfc4800", UPLOAD, 0x100, 0x1, OK, b"\x00\x00"),
    ("039104010109feca09024ee4e07a00", ARM, 0x4, 0xCAFE0000, LIMIT, b"\x02"),
    ("0592ffff0201010604601ad80300", FIRE, 0xFFFF, 0x2, RUNNING, b""),
    ("039105020601010102010101020501010554981f9000", ARM, 0x5, 0x6, OK, b"\x01\x00\x00\x00\x05\x00\x00\x00"),
]
