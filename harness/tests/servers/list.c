/* Proves: a reply that two changed functions write is mixed when the update comes
 * between them, and only in the exchange in flight. */
#include "line_server.h"

static void header(int fd) { say(fd, VERSION_TEXT("list:", "LIST")); }

static void item(int fd, int number) { say_number(fd, VERSION_TEXT("item", "ITEM"), number); }

static void list(int fd)
{
    header(fd);
    item(fd, 1);
    item(fd, 2);
}

int main(void)
{
    int listener = listen_on(7000);
    char line[80];

    for (;;) {
        int fd = accept(listener, NULL, NULL);

        while (next_line(fd, line, sizeof line))
            list(fd);
        close(fd);
    }
}
