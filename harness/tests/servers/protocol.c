/* Proves: a protocol between two processes that changes on both sides fails when the
 * sides are updated apart (scope process), and holds when they are updated at once
 * (scope tree) unless a request of the old protocol is under way: then `ask` is active. */
#include "line_server.h"

static int helper;

static char answer(char request) { return request == VERSION_TEXT('o', 'n') ? 'y' : 'n'; }

static void serve_front(int fd)
{
    char request;

    while (read(fd, &request, 1) == 1) {
        char reply = answer(request);

        if (write(fd, &reply, 1) != 1)
            break;
    }
    _exit(0);
}

static void ask(int client)
{
    char request = VERSION_TEXT('o', 'n'), reply = '?';

    if (write(helper, &request, 1) == 1 && read(helper, &reply, 1) == 1)
        say(client, reply == 'y' ? "understood" : "what?");
    else
        say(client, "nobody answers");
}

static void start_helper(void)
{
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0)
        exit(8);
    if (fork() == 0) {
        close(ends[0]);
        serve_front(ends[1]);
    }
    close(ends[1]);
    helper = ends[0];
}

int main(void)
{
    int listener;
    char line[80];

    start_helper();
    listener = listen_on(7000);
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        while (next_line(fd, line, sizeof line))
            ask(fd);
        close(fd);
    }
}
