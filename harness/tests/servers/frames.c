/* Proves: in which exchanges an old frame runs is seen alike by every engine: one that
 * waits in a callee for some of them, on several stacks; one that is left by a jump, one
 * that returns, one with a child below it that crashes, one whose callee is interrupted,
 * more than are followed at a time. `main`, `serve`, `session` and `nested` change. */
#include "line_server.h"
#include <setjmp.h>

static jmp_buf again, out;
static int client;

static void tick(void) { __asm__ volatile(""); }

/* Waits itself, until it is answered. */
static void on_signal(int signal)
{
    char line[80];

    (void)signal;
    say(client, "interrupted");
    if (next_line(client, line, sizeof line))
        say(client, "goes on");
}

/* A child goes on in the caller while its parent waits for it. */
static int with_child(int fd)
{
    int status;
    pid_t child = fork();

    if (child == 0)
        return 'c';
    if (waitpid(child, &status, 0) == child)
        say_number(fd, "child ended by", WTERMSIG(status));
    return 0;
}

/* Serves the lines that the caller has no part in; returns the first letter of one. */
static int linger(int fd)
{
    char line[80];

    while (next_line(fd, line, sizeof line)) {
        tick();
        if (is(line, "again"))
            longjmp(again, 1);
        if (is(line, "out"))
            longjmp(out, 1);
        if (is(line, "crash"))
            abort();
        if (is(line, "fork")) {
            if (with_child(fd) != 0)
                return 'c';
        } else if (is(line, "lines")) {
            say(fd, "lingers");
        } else {
            return line[0];
        }
    }
    return 0;
}

static int deeper(int fd)
{
    volatile char room[200];
    int what;

    room[0] = 1;
    what = linger(fd);
    return what + room[0] - 1;
}

/* More frames than are followed at a time. */
static int nested(int fd, int depth)
{
    int what = depth == 0 ? linger(fd) : nested(fd, depth - 1);

    if (depth % 10 == 0)
        say(fd, VERSION_TEXT("old nested", "new nested"));
    return what;
}

static void session(int fd)
{
    int what;

    if (setjmp(again) != 0)
        say(fd, VERSION_TEXT("old again", "new again"));
    while ((what = linger(fd)) != 0) {
        tick();
        say(fd, VERSION_TEXT("old", "new"));
        if (what == 'd')
            what = deeper(fd);
        if (what == 'o')
            what = linger(fd);
        if (what == 'n')
            what = nested(fd, 20);
        if (what == 'r')
            return;
        say(fd, VERSION_TEXT("old end", "new end"));
    }
}

static void serve(int listener)
{
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        client = fd;
        if (setjmp(out) != 0)
            say(client, VERSION_TEXT("old out", "new out"));
        session(client);
        say(client, VERSION_TEXT("old bye", "new bye"));
        close(client);
    }
}

int main(void)
{
    int listener = listen_on(7000);

    signal(SIGUSR1, on_signal);
    serve(listener);
    return VERSION_TEXT("old", "new")[0];
}
