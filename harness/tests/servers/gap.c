/* Proves: a global that was never written gets the new version's initial values under a
 * common layout, but for the gap of a member that went: an active old frame still reads
 * that. */
#include "line_server.h"

struct limits {
#ifdef NEW
    int added;
    int most;
#else
    int most;
    int gone;
#endif
};

#ifdef NEW
struct limits limits = { .added = 3, .most = 2 };
#else
struct limits limits = { .most = 1, .gone = 7 };
#endif

static void touch(void) { __asm__ volatile("" ::: "memory"); }

static void tell(int fd)
{
    touch();
#ifdef NEW
    say_number(fd, "is", limits.most * 10 + limits.added);
#else
    say_number(fd, "is", limits.gone);
#endif
}

int main(void)
{
    int listener = listen_on(7000);
    char line[80];

    for (;;) {
        int fd = accept(listener, NULL, NULL);

        while (next_line(fd, line, sizeof line))
            tell(fd);
        close(fd);
    }
}
