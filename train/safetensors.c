#include "train/safetensors.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "train/open_clip.h"
#include "train/safetensors_parts.h"
#include "train/torch_zip.h"

#define INDEX_CAP ((size_t)64 << 20)

static bif_status open_file(bif_safetensors *set, const char *path)
{
    bif_status st = BIF_OK;
    int fd = -1;
    size_t size = 0;
    BIF_TRY(bif_open_regular(path, &fd, &size));
    if (size < 8) {
        st = bif_fail(BIF_ERR_DATA, "%s: not a safetensors file: only %zu bytes", path, size);
        goto done;
    }
    void *map = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED) {
        st = bif_fail(BIF_ERR_IO, "cannot map '%s': %s", path, strerror(errno));
        goto done;
    }
    set->files = bif_realloc(set->files, set->file_count + 1, sizeof(*set->files));
    set->files[set->file_count] = (bif_st_file){bif_strdup(path), map, size};
    set->file_count++;
    if (memcmp(map, "PK\3\4", 4) == 0) {
        BIF_TRY(bif_torch_parse(set, set->file_count - 1));
    } else if (memcmp(map, "\x80\x02\x8a\x0a", 4) == 0) {
        st = bif_fail(BIF_ERR_DATA, "%s: the format of torch.save before version 1.6, which is not read; load it there and save it again",
                      path);
    } else {
        BIF_TRY(bif_st_parse(set, set->file_count - 1));
    }
done:
    if (fd >= 0) {
        close(fd);
    }
    return st;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const bif_st_entry *const *)a)->name, (*(const bif_st_entry *const *)b)->name);
}

bif_status bif_st_lookup(bif_safetensors *set)
{
    free(set->by_name);
    set->by_name = bif_calloc(set->count + 1, sizeof(*set->by_name));
    for (size_t i = 0; i < set->count; i++) {
        set->by_name[i] = &set->entries[i];
    }
    qsort(set->by_name, set->count, sizeof(*set->by_name), by_name);
    for (size_t i = 1; i < set->count; i++) {
        if (strcmp(set->by_name[i - 1]->name, set->by_name[i]->name) == 0) {
            return bif_fail(BIF_ERR_DATA, "tensor %s is both in %s and in %s", set->by_name[i]->name,
                            bif_safetensors_path(set, set->by_name[i - 1]), bif_safetensors_path(set, set->by_name[i]));
        }
    }
    return BIF_OK;
}

bif_status bif_safetensors_merge(bif_safetensors *set, bif_safetensors *from, const char *old_prefix, const char *new_prefix)
{
    const size_t skip = strlen(old_prefix);
    set->entries = bif_realloc(set->entries, set->count + from->count + 1, sizeof(*set->entries));
    set->files = bif_realloc(set->files, set->file_count + from->file_count + 1, sizeof(*set->files));
    for (size_t i = 0; i < from->count; i++) {
        bif_st_entry *entry = &from->entries[i];
        if (strncmp(entry->name, old_prefix, skip) == 0) {
            char *name = bif_format("%s%s", new_prefix, entry->name + skip);
            set->entries[set->count] = *entry;
            set->entries[set->count].name = name;
            set->entries[set->count++].file += (int)set->file_count;
        }
    }
    memcpy(set->files + set->file_count, from->files, from->file_count * sizeof(*from->files));
    set->file_count += from->file_count;
    from->file_count = 0;
    set->owned = bif_realloc(set->owned, set->owned_count + from->owned_count + 1, sizeof(*set->owned));
    for (size_t i = 0; i < from->owned_count; i++) {
        set->owned[set->owned_count++] = from->owned[i];
    }
    from->owned_count = 0;
    bif_safetensors_close(from);
    return bif_st_lookup(set);
}

void bif_safetensors_drop(bif_safetensors *set, const char *prefix)
{
    size_t kept = 0;
    for (size_t i = 0; i < set->count; i++) {
        if (strncmp(set->entries[i].name, prefix, strlen(prefix)) == 0) {
            free(set->entries[i].name);
        } else {
            set->entries[kept++] = set->entries[i];
        }
    }
    set->count = kept;
    const bif_status st = bif_st_lookup(set);
    BIF_BUG_IF(st != BIF_OK, "%s", bif_error_message());
}

static bif_status open_index(bif_safetensors *set, const char *folder, const char *index)
{
    bif_status st = BIF_OK;
    json_t *root = NULL;
    BIF_TRY(bif_json_load_file(index, INDEX_CAP, &root));
    json_t *map = json_object_get(root, "weight_map");
    if (!json_is_object(map) || json_object_size(map) == 0) {
        st = bif_fail(BIF_ERR_DATA, "%s: 'weight_map' must map tensor names to files", index);
        goto done;
    }
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach(map, name, value)
    {
        const char *file = json_string_value(value);
        if (file == NULL || file[0] == '\0' || file[0] == '.' || strchr(file, '/') != NULL) {
            st = bif_fail(BIF_ERR_DATA, "%s: tensor %.200s names the file '%.200s'; a plain file name of this folder is wanted", index,
                          name, file == NULL ? "(not a string)" : file);
            goto done;
        }
        bool seen = false;
        for (size_t i = 0; i < set->file_count && !seen; i++) {
            seen = strcmp(bif_path_base(set->files[i].path), file) == 0;
        }
        if (!seen) {
            char *path = bif_path_join(folder, file);
            st = open_file(set, path);
            free(path);
            if (st != BIF_OK) {
                st = bif_fail_context(st, "%s, which puts %.200s into %.200s", index, name, file);
                goto done;
            }
        }
    }
    BIF_TRY(bif_st_lookup(set));
    json_object_foreach(map, name, value)
    {
        const bif_st_entry *entry = bif_safetensors_find(set, name);
        if (entry == NULL || strcmp(bif_path_base(set->files[entry->file].path), json_string_value(value)) != 0) {
            st = bif_fail(BIF_ERR_DATA, "%s: tensor %s is not in %s as the index says", index, name, json_string_value(value));
            goto done;
        }
    }
done:
    json_decref(root);
    return st;
}

bif_status bif_safetensors_open(const char *path, bif_safetensors **out)
{
    /* What a folder may hold, in the order of preference. */
    static const struct {
        const char *name;
        bool index;
    } names[] = {{"model.safetensors", false}, {"model.safetensors.index.json", true}, {"pytorch_model.bin", false},
                 {"pytorch_model.bin.index.json", true}, {"mm_projector.bin", false},
                 {"open_clip_model.safetensors", false}, {"open_clip_pytorch_model.bin", false}};
    bif_status st = BIF_OK;
    bif_safetensors *set = bif_calloc(1, sizeof(*set));
    struct stat info;
    if (stat(path, &info) != 0) {
        st = bif_fail(BIF_ERR_IO, "cannot open '%s': %s", path, strerror(errno));
        goto done;
    }
    if (!S_ISDIR(info.st_mode)) {
        BIF_TRY(open_file(set, path));
        BIF_TRY(bif_st_lookup(set));
    }
    for (size_t i = 0; S_ISDIR(info.st_mode) && set->file_count == 0 && i < sizeof names / sizeof *names; i++) {
        char *file = bif_path_join(path, names[i].name);
        if (bif_exists(file)) {
            st = names[i].index ? open_index(set, path, file) : open_file(set, file);
            st = st == BIF_OK ? bif_st_lookup(set) : st;
        }
        free(file);
        BIF_TRY(st);
    }
    BIF_TRY(bif_open_clip_names(set));
    BIF_TRY(bif_st_lookup(set));
    if (set->file_count == 0) {
        st = bif_fail(BIF_ERR_DATA, "%s: no model.safetensors and no model.safetensors.index.json, nor what torch.save would write", path);
        goto done;
    }
    *out = set;
    set = NULL;
done:
    bif_safetensors_close(set);
    return st;
}

void bif_safetensors_close(bif_safetensors *st)
{
    if (st == NULL) {
        return;
    }
    for (size_t i = 0; i < st->count; i++) {
        free(st->entries[i].name);
    }
    for (size_t i = 0; i < st->file_count; i++) {
        munmap(st->files[i].map, st->files[i].size);
        free(st->files[i].path);
    }
    for (size_t i = 0; i < st->owned_count; i++) {
        free(st->owned[i]);
    }
    free(st->owned);
    free(st->entries);
    free(st->files);
    free(st->by_name);
    json_decref(st->metadata);
    free(st);
}

int64_t bif_safetensors_count(const bif_safetensors *st)
{
    return (int64_t)st->count;
}

const bif_st_entry *bif_safetensors_at(const bif_safetensors *st, int64_t index)
{
    BIF_BUG_IF(index < 0 || (size_t)index >= st->count, "tensor %" PRId64 " of %zu", index, st->count);
    return &st->entries[index];
}

const bif_st_entry *bif_safetensors_find(const bif_safetensors *st, const char *name)
{
    size_t low = 0, high = st->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = strcmp(name, st->by_name[middle]->name);
        if (order == 0) {
            return st->by_name[middle];
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return NULL;
}

const char *bif_safetensors_path(const bif_safetensors *st, const bif_st_entry *entry)
{
    return st->files[entry->file].path;
}

const char *bif_safetensors_metadata(const bif_safetensors *st, const char *key)
{
    return json_string_value(json_object_get(st->metadata, key));
}

void bif_safetensors_release(const bif_safetensors *st, const bif_st_entry *entry)
{
    const bif_st_file *file = &st->files[entry->file];
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), map = (uintptr_t)file->map, data = (uintptr_t)entry->data;
    if (data < map || data >= map + file->size) {
        return; /* memory of our own (bif_safetensors.owned) */
    }
    /* Whole pages only; the one that the entry begins in was the end of its predecessor, which has been read. */
    const uintptr_t first = data / page * page, last = (data + entry->bytes) / page * page;
    if (last > first) {
        madvise((void *)first, last - first, MADV_DONTNEED);
    }
}

bif_status bif_safetensors_read_f32(const bif_safetensors *st, const bif_st_entry *entry, float *out)
{
    return bif_safetensors_read_part_f32(st, entry, 0, (int64_t)(entry->bytes / bif_dtype_size(entry->dtype)), out);
}

bif_status bif_safetensors_read_part_f32(const bif_safetensors *st, const bif_st_entry *entry, int64_t first, int64_t count, float *out)
{
    if (entry->dtype != BIF_DTYPE_F32 && entry->dtype != BIF_DTYPE_BF16 && entry->dtype != BIF_DTYPE_F16) {
        return bif_fail(BIF_ERR_DATA, "%s: tensor %s is %s, floating point is wanted", bif_safetensors_path(st, entry), entry->name,
                        bif_dtype_name(entry->dtype));
    }
    bif_entry_floats(entry, first, count, out);
    return BIF_OK;
}
