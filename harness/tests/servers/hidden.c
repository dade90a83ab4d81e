/* Proves: two update tests that have shown the same up to the end of an exchange are
 * taken for alike only if all is alike that may show later. Every command but `tell`
 * notes, where no client sees it, which version ran it: in the heap, in the frame of
 * main's loop, in a file, in a pipe, in how numbers are rounded, in which signals are
 * blocked, in an order of descriptors, in another process. `tell` shows it all. */
#include "line_server.h"
#include <fenv.h>

static int *heap, notes, pipes[2], child[2], spare = -1;

static int version(void) { return VERSION_TEXT(1, 2); }

static void note_in_heap(void) { *heap = 3 * *heap + version(); }

static void note_in_frame(int *frame) { *frame = 3 * *frame + version(); }

static void note_in_file(void)
{
    if (write(notes, version() == 1 ? "a" : "b", 1) != 1)
        abort();
}

static void note_in_pipe(void)
{
    if (write(pipes[1], version() == 1 ? "a" : "b", 1) != 1)
        abort();
}

static void note_in_rounding(void) { fesetround(version() == 1 ? FE_TONEAREST : FE_UPWARD); }

static void note_in_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, version() == 1 ? SIGUSR1 : SIGUSR2);
    sigprocmask(SIG_SETMASK, &set, NULL);
}

static void note_in_descriptors(void)
{
    if (spare >= 0)
        close(spare);
    spare = version() == 1 ? -1 : dup(pipes[0]);
}

/* A process that remembers one byte and gives it back when it is asked. */
static void keep(int fd)
{
    char byte, kept = '?';

    while (read(fd, &byte, 1) == 1) {
        if (byte != '=')
            kept = byte;
        else if (write(fd, &kept, 1) != 1)
            break;
    }
    _exit(0);
}

static void note_in_process(void)
{
    if (write(child[0], version() == 1 ? "a" : "b", 1) != 1)
        abort();
}

static double third(double one) { return one / 3; }

static void tell(int fd, int frame)
{
    char text[32] = "", byte = 0;
    volatile double one = 1;
    sigset_t set;

    say_number(fd, "heap", *heap);
    say_number(fd, "frame", frame);
    if (pread(notes, text, sizeof text - 1, 0) >= 0)
        say(fd, text);
    memset(text, 0, sizeof text);
    if (read(pipes[0], text, sizeof text - 1) >= 0)
        say(fd, text);
    say_number(fd, "rounded up", third(one) * 3 > 1);
    sigprocmask(SIG_SETMASK, NULL, &set);
    say_number(fd, "blocked", sigismember(&set, SIGUSR1) + 2 * sigismember(&set, SIGUSR2));
    say_number(fd, "next descriptor", dup(pipes[0]) - pipes[0]);
    if (write(child[0], "=", 1) == 1 && read(child[0], &byte, 1) == 1)
        say_number(fd, "process", byte);
}

static void command(int fd, const char *line, int *frame)
{
    if (is(line, "heap"))
        note_in_heap();
    else if (is(line, "frame"))
        note_in_frame(frame);
    else if (is(line, "file"))
        note_in_file();
    else if (is(line, "pipe"))
        note_in_pipe();
    else if (is(line, "rounding"))
        note_in_rounding();
    else if (is(line, "signals"))
        note_in_signals();
    else if (is(line, "descriptors"))
        note_in_descriptors();
    else if (is(line, "process"))
        note_in_process();
    else if (is(line, "tell"))
        tell(fd, *frame);
    say(fd, "ok");
}

int main(void)
{
    int frame = 0, listener = listen_on(7000);
    char line[80];

    heap = calloc(1, sizeof *heap);
    notes = open("notes", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (!heap || notes < 0 || pipe(pipes) != 0)
        return 9;
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        if (fd < 0)
            continue;
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, child) != 0)
            abort();
        if (fork() == 0) {
            close(fd);
            close(child[0]);
            keep(child[1]);
        }
        close(child[1]);
        while (next_line(fd, line, sizeof line))
            command(fd, line, &frame);
        close(child[0]);
        wait(NULL);
        close(fd);
    }
}
