/* Shows: a macro is renumbered, which no type tells. The stored number can be put right
 * by a transformer; the number that an unchanged frame has already read cannot. */
#include "line_server.h"

#define OPEN 1
#define SHUT 2

static int door = OPEN;

static volatile int audited;

static void audit(int now) { audited = now; }

static void describe(int fd, int now)
{
    if (now == SHUT)
        say(fd, "shut");
    else
        say(fd, "open");
}

static void report(int fd)
{
    int now = door;

    audit(now);
    describe(fd, now);
}

static void shut(int fd)
{
    door = SHUT;
    say(fd, "done");
}

int main(int count, char **arguments)
{
    int listener;
    char line[LONGEST_LINE];

    (void)count;
    listener = listen_on(atoi(arguments[1]));
    for (;;) {
        int fd = next_client(listener);

        while (next_line(fd, line, sizeof line)) {
            if (is(line, "SHUT"))
                shut(fd);
            else
                report(fd);
        }
        close(fd);
    }
}
