/* Shows: a protocol between two processes that changes on both sides fails when the sides
 * are updated apart. Updated at once it holds, unless a request is under way: then the old
 * `ask` waits for the reply to a request in the old coding. */
#include "line_server.h"

static int helper;

static unsigned char successor(unsigned char request) { return (request ^ 0x55) + 1; }

static void serve_front(int fd)
{
    unsigned char request;

    while (read(fd, &request, 1) == 1) {
        unsigned char reply = successor(request);

        if (write(fd, &reply, 1) != 1)
            break;
    }
    _exit(0);
}

static void ask(int fd, int number)
{
    unsigned char request = (unsigned char)(number ^ 0x55), reply = 0;

    if (write(helper, &request, 1) == 1 && read(helper, &reply, 1) == 1)
        say_number(fd, "next", reply);
    else
        say(fd, "nobody answers");
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

int main(int count, char **arguments)
{
    int listener;
    char line[LONGEST_LINE];

    (void)count;
    start_helper();
    listener = listen_on(atoi(arguments[1]));
    for (;;) {
        int fd = next_client(listener);

        while (next_line(fd, line, sizeof line)) {
            ask(fd, atoi(line));
        }
        close(fd);
    }
}
