/* Proves: a record in a frame that stays for the whole session cannot grow there. What
 * moves leaves the old frame behind with the copy that it uses; one layout for both
 * versions leaves everybody where they are. */
#include "line_server.h"

struct session {
    long hits;
};

/* What lies behind the record takes what new code writes into the old copy. */
struct call {
    struct session session;
    long behind;
};

static void hit(struct session *of) { of->hits++; }

static void ok(int fd) { say(fd, "ok"); }

static void tell(int fd, long hits) { say_number(fd, "hits", hits); }

static void serve(int fd)
{
    struct call call = { .behind = 0 };
    char line[LONGEST_LINE];

    while (next_line(fd, line, sizeof line)) {
        if (is(line, "HIT")) {
            hit(&call.session);
            ok(fd);
        } else {
            tell(fd, call.session.hits);
        }
    }
}

int main(int count, char **arguments)
{
    int listener;

    (void)count;
    listener = listen_on(atoi(arguments[1]));
    for (;;) {
        int fd = next_client(listener);

        serve(fd);
        close(fd);
    }
}
