#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "data/shard.h"

static int is_shard(const struct dirent *entry)
{
    const size_t n = strlen(entry->d_name);
    return n > 3 && entry->d_name[0] != '.' && strcmp(entry->d_name + n - 3, ".h5") == 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name); /* bytes, not the locale: the order must be the same everywhere */
}

bif_status bif_shard_each(const char *path, bif_status (*use)(void *context, const char *path), void *context)
{
    if (!bif_is_folder(path)) {
        return use(context, path);
    }
    struct dirent **entries = NULL;
    const int count = scandir(path, &entries, is_shard, by_name);
    bif_status st = count < 0    ? bif_fail_errno(errno, "cannot list the folder '%s'", path)
                    : count == 0 ? bif_fail(BIF_ERR_DATA, "%s: no shards (*.h5) in this folder", path)
                                 : BIF_OK;
    for (int i = 0; i < count; i++) {
        char *name = bif_path_join(path, entries[i]->d_name);
        st = st == BIF_OK ? use(context, name) : st;
        free(name);
        free(entries[i]);
    }
    free(entries);
    return st;
}
