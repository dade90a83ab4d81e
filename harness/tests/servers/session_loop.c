/* Proves: a changed loop that ends with its connection answers in the old way until
 * then, and in the new way from the next connection on: late. */
#include "line_server.h"

static void tick(void) { __asm__ volatile(""); }

static void session(int fd)
{
    char line[80];

    while (next_line(fd, line, sizeof line)) {
        tick();
        say(fd, VERSION_TEXT("old", "new"));
    }
    close(fd);
}

int main(void)
{
    int listener = listen_on(7000);

    for (;;)
        session(accept(listener, NULL, NULL));
}
