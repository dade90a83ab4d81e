/* Proves that a patch image works: the program applies the update to itself and
   goes on. Part of both versions of every subject of tests/patch.rs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void write_jump(unsigned long old, unsigned long new)
{
    unsigned char *at = (unsigned char *)old + 5;
    int distance = (int)(new - (old + 10));
    at[0] = 0xe9;
    memcpy(at + 1, &distance, 4);
}

/* The plan is text: one action a line, addresses in hexadecimal. */
int kairos_test_apply(const char *plan, const char *image)
{
    static char bytes[1 << 20], name[256];
    unsigned long a, b, c, d;
    char what;
    int f = open(image, O_RDONLY);
    long length = read(f, bytes, sizeof bytes);
    FILE *p = fopen(plan, "r");
    close(f);
    if (length < 0 || !p)
        return -1;
    void *at = mmap((void *)0x40000000, 1 << 20, 7, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (at != (void *)0x40000000)
        return -2;
    memcpy(at, bytes, length);
    while (fscanf(p, " %c %lx %lx %lx %lx %255s", &what, &a, &b, &c, &d, name) == 6) {
        switch (what) {
        case 'R':
            mprotect((void *)(a & ~4095ul), 8192, 7);
            write_jump(a, b);
            break;
        case 'C': /* carry: old, new, bytes */
            memcpy((void *)b, (void *)a, c);
            break;
        case 'I': /* reinitialise: old, new, bytes */
            memcpy((void *)a, (void *)b, c);
            break;
        case 'S':
            *(void **)a = dlsym(RTLD_DEFAULT, name);
            break;
        case 'T':
            ((void (*)(void))a)();
            break;
        }
    }
    fclose(p);
    return 0;
}
