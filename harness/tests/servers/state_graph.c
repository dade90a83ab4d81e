/* Proves: changed records are found through a tree, a hash table whose length the
 * manifest names, a cycle, an object that two pointers share, a union whose member a
 * rule chooses and a global; bit-fields, retyped numbers and nested records keep their
 * values. Every reply tells what the server itself counted. */
#include "line_server.h"

enum kind { LEAF = 1, TREE = 2 };

struct stamp {
#ifdef NEW
    long serial;
    short day;
#else
    short day;
    int serial;
#endif
};

struct node {
#ifdef NEW
    struct stamp stamp;
    struct node *right;
    struct node *left;
    unsigned flags : 5;
    unsigned hot : 1;
    long key;
#else
    int key;
    unsigned hot : 1;
    unsigned flags : 3;
    struct node *left;
    struct node *right;
    struct stamp stamp;
#endif
};

struct item {
#ifdef NEW
    struct item *next;
    struct item *peer;
    struct node *node;
    char extra[64];
    int number;
#else
    int number;
    struct node *node;
    struct item *next;
    struct item *peer;
#endif
};

struct table {
    unsigned power;
    int used;
    struct item **buckets;
};

/* Not changed itself: what it holds depends on its kind. */
struct holder {
    enum kind kind;
    union {
        long number;
        struct node *node;
    } is;
};

static struct table table;
static struct holder holders[4];
static struct node root;
static int nodes;

static int insert(struct node *at, int key)
{
    struct node **place = key < at->key ? &at->left : &at->right;

    if (*place)
        return insert(*place, key);
    *place = calloc(1, sizeof **place);
    (*place)->key = key;
    (*place)->hot = key & 1;
    (*place)->flags = key & 7;
    (*place)->stamp.day = (short)(key * 2);
    (*place)->stamp.serial = -key;
    nodes++;
    return nodes;
}

static struct node *find(struct node *at, int key)
{
    while (at && at->key != key)
        at = key < at->key ? at->left : at->right;
    return at;
}

static int put(int key)
{
    struct item *item = calloc(1, sizeof *item);
    struct item **bucket = &table.buckets[key & ((1 << table.power) - 1)];

    item->number = key;
    item->node = find(&root, key);
    item->next = *bucket;
    item->peer = *bucket ? (*bucket)->peer : item;
    if (*bucket)
        (*bucket)->peer = item;
    *bucket = item;
    return ++table.used;
}

static int hold(int key)
{
    struct holder *holder = &holders[key & 3];
    struct node *fresh = calloc(1, sizeof *fresh);

    if (key & 1) {
        free(fresh);
        holder->kind = LEAF;
        holder->is.number = key;
        return nodes;
    }
    fresh->key = key;
    fresh->stamp.serial = -key;
    fresh->stamp.day = (short)(key * 2);
    fresh->flags = key & 7;
    holder->kind = TREE;
    holder->is.node = fresh;
    return ++nodes;
}

static int right(struct node *node)
{
    return node->stamp.serial == -node->key && node->stamp.day == node->key * 2
        && node->hot == (node->key & 1) && node->flags == (node->key & 7);
}

static int count(struct node *at)
{
    return at ? right(at) + count(at->left) + count(at->right) : 0;
}

static int count_items(void)
{
    int found = 0;

    for (int i = 0; i < 1 << table.power; i++)
        for (struct item *item = table.buckets[i]; item; item = item->next)
            found += item->peer != NULL && (!item->node || item->node->key == item->number);
    return found;
}

static int count_held(void)
{
    int found = 0;

    for (int i = 0; i < 4; i++)
        if (holders[i].kind == TREE)
            found += right(holders[i].is.node);
    return found;
}

static void check(int fd)
{
    say_number(fd, "nodes", nodes - count(root.left) - count(root.right) - count_held());
    say_number(fd, "items", table.used - count_items());
}

static void command(int fd, const char *line)
{
    int key = atoi(line + 1);

    if (line[0] == 'n')
        say_number(fd, "nodes", insert(&root, key));
    else if (line[0] == 'i')
        say_number(fd, "items", put(key));
    else if (line[0] == 'h')
        say_number(fd, "nodes", hold(key));
    else
        check(fd);
}

int main(void)
{
    int listener = listen_on(7000);
    char line[80];

    table.power = 2;
    table.buckets = calloc(1 << table.power, sizeof *table.buckets);
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        while (next_line(fd, line, sizeof line))
            command(fd, line);
        close(fd);
    }
}
