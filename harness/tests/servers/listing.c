/* Proves: a folder is listed in one order, whatever engine runs: names that the session
 * gave, whether anew, once more or by renaming, are where a file system in memory puts
 * them among those that were there before. */
#include "line_server.h"

#include <dirent.h>
#include <sys/stat.h>

static void list(int fd)
{
    DIR *folder = opendir("sub");
    struct dirent *entry;

    if (folder == NULL)
        abort();
    while ((entry = readdir(folder)) != NULL)
        say(fd, entry->d_name);
    closedir(folder);
}

static void create(const char *path)
{
    int file = open(path, O_WRONLY | O_CREAT, 0666);

    if (file < 0 || write(file, VERSION_TEXT("old", "new"), 3) != 3)
        abort();
    close(file);
}

static void command(int fd, const char *line)
{
    if (is(line, "create")) {
        create("sub/a");
        create("sub/b");
        create("sub/c");
        create("sub/kept");
    } else if (is(line, "remove")) {
        unlink("sub/a");
        unlink("sub/gone");
    } else if (is(line, "again")) {
        create("sub/a");
        create("sub/gone");
    } else if (is(line, "rename")) {
        rename("sub/b", "sub/d");
        rename("sub/a", "sub/c");
        rename("sub/kept", "sub/renamed");
    }
    list(fd);
    say(fd, "ok");
}

int main(void)
{
    int listener;
    char line[80];

    if (mkdir("sub", 0777) != 0)
        return 9;
    create("sub/first");
    create("sub/kept");
    create("sub/gone");
    create("sub/last");
    listener = listen_on(7000);
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        while (next_line(fd, line, sizeof line))
            command(fd, line);
        close(fd);
    }
}
