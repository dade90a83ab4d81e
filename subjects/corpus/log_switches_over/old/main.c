/* Shows: a log that begins in the old version and ends in the new one is right; one that
 * goes back to the old version is not. No reply shows either. */
#include "line_server.h"

static void first(void) { log_line("journal", "first"); }

static void middle(void) { log_line("journal", "middle"); }

static void last(void) { log_line("journal", "last"); }

static void work(void)
{
    first();
    middle();
    last();
}

static void wrap(void)
{
    log_line("journal", "begin");
    middle();
    log_line("journal", "end");
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
            if (is(line, "WRAP"))
                wrap();
            else
                work();
            say(fd, "done");
        }
        close(fd);
    }
}
