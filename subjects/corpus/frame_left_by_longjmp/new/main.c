/* Shows: a frame that longjmp has left is gone and excuses nothing any more. What `recall`
 * says was made by the old start-up. */
#include "line_server.h"

#include <setjmp.h>

static jmp_buf next_request;
static const char *stored;

static void load(void) { stored = "new form"; }

static void check(void) { do_nothing(); }

static void refuse(int fd)
{
    say(fd, "refused");
    longjmp(next_request, 1);
}

static void request(int fd)
{
    check();
    say(fd, "started");
    refuse(fd);
}

static void tell(int fd) { say(fd, "said"); }

static void recall(int fd) { say(fd, stored); }

static void serve(int fd)
{
    char line[LONGEST_LINE];

    while (next_line(fd, line, sizeof line)) {
        if (setjmp(next_request) != 0)
            continue;
        if (is(line, "REQUEST"))
            request(fd);
        else if (is(line, "RECALL"))
            recall(fd);
        else
            tell(fd);
    }
    close(fd);
}

int main(int count, char **arguments)
{
    int listener;

    (void)count;
    load();
    listener = listen_on(atoi(arguments[1]));
    for (;;)
        serve(next_client(listener));
}
