#include "CSignals.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// An entry changes hands without a lock: whoever turns an even `version` odd owns the entry until it is even again. A reader
// takes what it read for true only when `version` was even and the same before and after.
typedef struct {
    _Atomic(unsigned) version;
    _Atomic(uintptr_t) start;  // 0: the entry is free
    _Atomic(size_t) byte_count;
    _Atomic(char *) path;
} entry;

enum { entries_per_block = 256 };

// Blocks are never freed, so that a reader can follow `next` at any time.
typedef struct block {
    entry entries[entries_per_block];
    _Atomic(struct block *) next;
} block;

static block first;

static bool take(entry *e) {
    unsigned version = atomic_load(&e->version);
    return version % 2 == 0 && atomic_compare_exchange_strong(&e->version, &version, version + 1);
}

static void give_back(entry *e) { atomic_fetch_add(&e->version, 1); }

bool zn_mapped_file_add(const void *start, size_t byte_count, const char *path) {
    char *copy = strdup(path);
    if (!copy) return false;
    for (block *b = &first;;) {
        for (int i = 0; i < entries_per_block; i++) {
            entry *e = &b->entries[i];
            if (atomic_load(&e->start) != 0 || !take(e)) continue;
            bool is_free = atomic_load(&e->start) == 0;
            if (is_free) {
                atomic_store(&e->byte_count, byte_count);
                atomic_store(&e->path, copy);
                atomic_store(&e->start, (uintptr_t)start);
            }
            give_back(e);
            if (is_free) return true;
        }
        block *next = atomic_load(&b->next);
        if (!next) {
            block *made = calloc(1, sizeof(block));
            if (!made) {
                free(copy);
                return false;
            }
            if (atomic_compare_exchange_strong(&b->next, &next, made)) {
                next = made;
            } else {
                free(made);
            }
        }
        b = next;
    }
}

void zn_mapped_file_remove(const void *start) {
    for (block *b = &first; b; b = atomic_load(&b->next)) {
        for (int i = 0; i < entries_per_block; i++) {
            entry *e = &b->entries[i];
            if (atomic_load(&e->start) != (uintptr_t)start) continue;
            // Only the owner of the mapping removes it, but someone who looks for a free entry may hold this one for a moment.
            while (!take(e)) {
            }
            char *path = atomic_load(&e->path);
            atomic_store(&e->start, 0);
            atomic_store(&e->path, NULL);
            give_back(e);
            free(path);
            return;
        }
    }
}

const char *zn_mapped_file_find(const void *address, size_t *offset) {
    uintptr_t wanted = (uintptr_t)address;
    for (block *b = &first; b; b = atomic_load(&b->next)) {
        for (int i = 0; i < entries_per_block; i++) {
            entry *e = &b->entries[i];
            unsigned version = atomic_load(&e->version);
            uintptr_t start = atomic_load(&e->start);
            size_t byte_count = atomic_load(&e->byte_count);
            const char *path = atomic_load(&e->path);
            if (version % 2 != 0 || version != atomic_load(&e->version)) continue;
            if (start == 0 || wanted < start || wanted - start >= byte_count) continue;
            *offset = wanted - start;
            return path;
        }
    }
    return NULL;
}
