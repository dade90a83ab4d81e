/* Shows: an update takes effect between two calls that the C library makes. `order` is
 * the comparison of qsort and leaves a letter in each call. The stack is walked through
 * the library; where that keeps the pointer to `order`, only a scan of words minds. */
#include "line_server.h"

static char trail[20];
static unsigned calls;

static int order(const void *left, const void *right)
{
    trail[calls++] = 'b';
    return *(const int *)left - *(const int *)right;
}

static void sort(int fd)
{
    int numbers[] = { 1, 2, 3 };

    memset(trail, 0, sizeof trail);
    calls = 0;
    qsort(numbers, 3, sizeof numbers[0], order);
    say_text(fd, "compared", trail);
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
            sort(fd);
        }
        close(fd);
    }
}
