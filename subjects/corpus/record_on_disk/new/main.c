/* Proves: records that were written to a file keep the size that they were written with;
 * no policy knows of them. Where both versions have one size and the shared member lies
 * where it lay, new code finds its way through a file that old code began. */
#include "line_server.h"

struct item {
    long value;
    long rank;
};

static void keep(int fd, long value)
{
    struct item item = { .value = value, .rank = 1 };
    int file = open("items", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

    if (file < 0 || write(file, &item, sizeof item) != sizeof item)
        exit(6);
    close(file);
    say(fd, "kept");
}

static void tell(int fd, long number)
{
    struct item item = { .value = 0 };
    int file = open("items", O_RDONLY | O_CLOEXEC);

    if (file < 0 || pread(file, &item, sizeof item, number * (long)sizeof item) < 0)
        exit(6);
    close(file);
    say_number(fd, "value", item.value);
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
            char *value = argument(line, "KEEP");
            char *number = argument(line, "TELL");

            if (value)
                keep(fd, atol(value));
            else if (number)
                tell(fd, atol(number));
        }
        close(fd);
    }
}
