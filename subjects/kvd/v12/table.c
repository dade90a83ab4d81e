#define _GNU_SOURCE
#include "table.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIRST_BUCKETS 4

struct entry {
    int locked; /* its value cannot be changed, nor the key removed */
    char *value;
    char *key;
    struct entry *left;  /* keys that come before */
    struct entry *right; /* keys that come after */
};

static struct entry **buckets;
static unsigned int bucket_count;
static int entry_count;

/* FNV-1a, folded, since the table uses the low bits */
static unsigned int hash_key(const char *key)
{
    unsigned int hash = 2166136261u;

    for (; *key; key++)
        hash = (hash ^ (unsigned char)*key) * 16777619u;
    return hash ^ hash >> 16;
}

static unsigned int bucket_of(unsigned int hash)
{
    return hash & (bucket_count - 1);
}

int table_start(void)
{
    bucket_count = FIRST_BUCKETS;
    buckets = calloc(bucket_count, sizeof *buckets);
    return buckets ? 0 : -1;
}

/* Where the pointer to the entry is in the tree, or where it would be. */
static struct entry **place_in(struct entry **root, const char *key)
{
    struct entry **place = root;

    while (*place) {
        int order = strcmp(key, (*place)->key);

        if (order == 0)
            break;
        place = order < 0 ? &(*place)->left : &(*place)->right;
    }
    return place;
}

static void link_entry(struct entry *entry, unsigned int hash)
{
    entry->left = NULL;
    entry->right = NULL;
    *place_in(&buckets[bucket_of(hash)], entry->key) = entry;
}

/* Moves a tree in front of a chain, which `right` links. */
static struct entry *unlink_tree(struct entry *entry, struct entry *chain)
{
    if (!entry)
        return chain;
    chain = unlink_tree(entry->left, chain);
    struct entry *after = entry->right;

    entry->right = chain;
    return unlink_tree(after, entry);
}

/* Takes every entry out of the buckets, into one chain. */
static struct entry *unlink_all(void)
{
    struct entry *chain = NULL;

    for (unsigned int i = 0; i < bucket_count; i++) {
        chain = unlink_tree(buckets[i], chain);
        buckets[i] = NULL;
    }
    return chain;
}

static void link_all(struct entry *chain)
{
    while (chain) {
        struct entry *entry = chain;

        chain = entry->right;
        link_entry(entry, hash_key(entry->key));
    }
}

/* Doubles the buckets when every one has an entry on average. */
static void grow_table(void)
{
    struct entry **grown;
    struct entry *chain;

    if (entry_count < (int)bucket_count)
        return;
    grown = calloc(bucket_count * 2, sizeof *grown);
    if (!grown)
        return;
    chain = unlink_all();
    free(buckets);
    buckets = grown;
    bucket_count *= 2;
    link_all(chain);
}

static struct entry **find_place(const char *key, unsigned int hash)
{
    return place_in(&buckets[bucket_of(hash)], key);
}

static void free_entry(struct entry *entry)
{
    free(entry->key);
    free(entry->value);
    free(entry);
}

static struct entry *new_entry(const char *key, char *value)
{
    struct entry *entry = calloc(1, sizeof *entry);

    if (!entry)
        return NULL;
    entry->key = strdup(key);
    if (!entry->key) {
        free(entry);
        return NULL;
    }
    entry->value = value;
    return entry;
}

static int add_entry(const char *key, char *value)
{
    struct entry *entry = new_entry(key, value);

    if (!entry) {
        free(value);
        return -1;
    }
    grow_table();
    link_entry(entry, hash_key(key));
    entry_count++;
    return 0;
}

int table_set(const char *key, const char *value)
{
    struct entry *entry = *find_place(key, hash_key(key));
    char *copy = strdup(value);

    if (!copy)
        return -1;
    if (!entry)
        return add_entry(key, copy);
    free(entry->value);
    entry->value = copy;
    return 0;
}

const char *table_get(const char *key)
{
    struct entry *entry = *find_place(key, hash_key(key));

    return entry ? entry->value : NULL;
}

/* Puts one of its subtrees, or the entry that comes next, in an entry's place. */
static void remove_from_tree(struct entry **place)
{
    struct entry *entry = *place;
    struct entry **next = &entry->right;
    struct entry *successor;

    if (!entry->left || !entry->right) {
        *place = entry->left ? entry->left : entry->right;
        return;
    }
    while ((*next)->left)
        next = &(*next)->left;
    successor = *next;
    *next = successor->right;
    successor->left = entry->left;
    successor->right = entry->right;
    *place = successor;
}

int table_remove(const char *key)
{
    struct entry **place = find_place(key, hash_key(key));
    struct entry *entry = *place;

    if (!entry)
        return 0;
    remove_from_tree(place);
    free_entry(entry);
    entry_count--;
    return 1;
}

int table_lock(const char *key, int locked)
{
    struct entry *entry = *find_place(key, hash_key(key));

    if (!entry)
        return 0;
    entry->locked = locked;
    return 1;
}

int table_is_locked(const char *key)
{
    struct entry *entry = *find_place(key, hash_key(key));

    return entry && entry->locked;
}

void table_clear(void)
{
    struct entry *chain = unlink_all();

    while (chain) {
        struct entry *entry = chain;

        chain = entry->right;
        free_entry(entry);
    }
    entry_count = 0;
}

void table_free(void)
{
    table_clear();
    free(buckets);
    buckets = NULL;
    bucket_count = 0;
}

int table_count(void)
{
    return entry_count;
}

static int compare_keys(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* The keys of one tree, from place `used` on. */
static int collect_tree(const struct entry *entry, const char **keys, int used)
{
    if (!entry || used >= entry_count)
        return used;
    used = collect_tree(entry->left, keys, used);
    if (used < entry_count)
        keys[used++] = entry->key;
    return collect_tree(entry->right, keys, used);
}

const char **table_keys(void)
{
    const char **keys = calloc((size_t)entry_count + 1, sizeof *keys);
    int used = 0;

    if (!keys)
        return NULL;
    for (unsigned int i = 0; i < bucket_count; i++) {
        if (buckets[i])
            used = collect_tree(buckets[i], keys, used);
    }
    qsort(keys, (size_t)used, sizeof *keys, compare_keys);
    return keys;
}

void table_free_keys(const char **keys)
{
    free(keys);
}

static int dump_entry(int file, const char *key)
{
    return dprintf(file, "%s %s\n", key, table_get(key)) < 0 ? -1 : 0;
}

int table_dump(const char *path)
{
    const char **keys = table_keys();
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    int result = keys && file >= 0 ? 0 : -1;

    for (int i = 0; result == 0 && keys[i]; i++)
        result = dump_entry(file, keys[i]);
    if (file >= 0)
        close(file);
    table_free_keys(keys);
    return result;
}
