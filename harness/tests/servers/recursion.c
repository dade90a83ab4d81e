/* Proves: each activation of a recursive function counts: frames that are active go on
 * in the old version, those to come are new, and their sum is neither version's. */
#include "line_server.h"

static int weigh(int depth)
{
    if (depth == 0)
        return 0;
    return VERSION_TEXT(1, 2) + weigh(depth - 1);
}

static void tell(int fd) { say_number(fd, "weight", weigh(3)); }

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
