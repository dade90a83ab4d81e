/* Proves: an update takes effect between two calls that the C library makes: `order`
 * is the comparison of qsort, ascending in the old version and descending in the new.
 * It also proves that a stack through the library is walked to its end. */
#include "line_server.h"

static int order(const void *left, const void *right)
{
    int difference = *(const int *)left - *(const int *)right;

    return VERSION_TEXT(difference, -difference);
}

static void sort(int fd)
{
    int numbers[] = { 2, 1, 3 };
    char text[40];

    qsort(numbers, 3, sizeof numbers[0], order);
    snprintf(text, sizeof text, "%d %d %d", numbers[0], numbers[1], numbers[2]);
    say(fd, text);
}

int main(void)
{
    int listener = listen_on(7000);
    char line[80];

    for (;;) {
        int fd = accept(listener, NULL, NULL);

        while (next_line(fd, line, sizeof line))
            sort(fd);
        close(fd);
    }
}
