/* What a source consists of, found on rank 0: tars and their statistics; a folder of pictures and texts, written down as records. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "data/pack_parts.h"

#define DEPTH 64 /* of folders */

static void add_path(bif_pack_paths *list, char *path)
{
    if ((list->count & (list->count - 1)) == 0) {
        list->path = bif_realloc(list->path, list->count > 0 ? 2 * list->count : 1, sizeof *list->path);
    }
    list->path[list->count++] = path;
}

void bif_pack_paths_free(bif_pack_paths *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->path[i]);
    }
    free(list->path);
    *list = (bif_pack_paths){0};
}

static int by_path(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sort_paths(bif_pack_paths *list)
{
    if (list->count > 1) {
        qsort(list->path, list->count, sizeof *list->path, by_path);
    }
}

bool bif_pack_ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcasecmp(text + n - m, end) == 0;
}

/* ---- tars ---- */

bif_status bif_pack_list_names(const char *folder, const char *end, bif_pack_paths *out)
{
    DIR *dir = opendir(folder);
    if (dir == NULL) {
        return bif_fail_errno(errno, "cannot list the folder '%s'", folder);
    }
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] != '.' && bif_pack_ends_with(entry->d_name, end)) {
            add_path(out, bif_path_join(folder, entry->d_name));
        }
    }
    closedir(dir);
    sort_paths(out);
    return BIF_OK;
}

static char *statistics_path(const char *tar)
{
    return bif_format("%.*s_stats.json", (int)(strlen(tar) - strlen(".tar")), tar);
}

bif_status bif_pack_statistics(const char *tar, bool *there, int64_t *count, int64_t *successes)
{
    bif_status st = BIF_OK;
    json_t *value = NULL;
    char *path = bif_pack_ends_with(tar, ".tar") ? statistics_path(tar) : bif_strdup("");
    *there = bif_exists(path);
    if (*there) {
        BIF_TRY(bif_json_load_file(path, BIF_PACK_TEXT, &value));
        BIF_TRY(bif_json_i64(path, value, "count", true, count));
        BIF_TRY(bif_json_i64(path, value, "successes", true, successes));
        if (*count < 0 || *successes < 0 || *successes > *count) {
            st = bif_fail(BIF_ERR_DATA, "%s: %lld successes of %lld", path, (long long)*successes, (long long)*count);
        }
    }
done:
    json_decref(value);
    free(path);
    return st;
}

/* Statistics whose tar is gone: lines of unit -1. */
static bif_status lost_tars(bif_pack_plan *plan, const char *folder, bif_writer **errors, int64_t *odd)
{
    bif_status st = BIF_OK;
    bif_pack_paths list = {0};
    BIF_TRY(bif_pack_list_names(folder, "_stats.json", &list));
    for (size_t i = 0; i < list.count; i++) {
        char *tar = bif_format("%.*s.tar", (int)(strlen(list.path[i]) - strlen("_stats.json")), list.path[i]);
        char *reason = bif_exists(tar) ? NULL : bif_format("the statistics are there, but '%s' is missing", bif_path_base(tar));
        if (reason != NULL) {
            char *path = bif_pack_unit_errors(plan, -1);
            st = *errors == NULL ? bif_writer_open(path, errors) : BIF_OK;
            free(path);
            bif_warn("%s: %s", list.path[i], reason);
            st = st == BIF_OK ? bif_pack_error_row(*errors, bif_path_base(list.path[i]), 0, 0, NULL, NULL, NULL, reason) : st;
            ++*odd;
        }
        free(reason);
        free(tar);
        if (st != BIF_OK) {
            goto done;
        }
    }
done:
    bif_pack_paths_free(&list);
    return st;
}

bif_status bif_pack_list_tars(bif_pack_plan *plan, bif_pack_paths *tars, int64_t *odd)
{
    bif_status st = BIF_OK;
    bif_writer *errors = NULL;
    const bif_pack_options *o = plan->options;
    for (int64_t i = -1; i < o->more_count; i++) {
        const char *path = i < 0 ? o->input : o->more[i];
        const size_t before = tars->count;
        if (!bif_is_folder(path)) {
            int fd = -1;
            BIF_TRY(bif_open_regular(path, &fd, NULL));
            close(fd);
            add_path(tars, bif_strdup(path));
            continue;
        }
        bif_pack_paths list = {0};
        st = bif_pack_list_names(path, ".tar", &list);
        for (size_t k = 0; k < list.count; k++) {
            add_path(tars, list.path[k]);
        }
        free(list.path);
        if (st == BIF_OK && tars->count == before) {
            st = bif_fail(BIF_ERR_DATA, "the folder '%s' holds no tars (*.tar)", path);
        }
        BIF_TRY(st == BIF_OK ? lost_tars(plan, path, &errors, odd) : st);
    }
    bif_pack_paths sorted = {.count = tars->count, .path = bif_malloc(tars->count * sizeof *sorted.path)};
    memcpy(sorted.path, tars->path, tars->count * sizeof *sorted.path);
    sort_paths(&sorted);
    for (size_t i = 1; i < sorted.count && st == BIF_OK; i++) {
        if (strcmp(sorted.path[i - 1], sorted.path[i]) == 0) {
            st = bif_fail(BIF_ERR_USAGE, "'%s' is named twice", sorted.path[i]);
        }
    }
    free(sorted.path);
    for (size_t i = 0; i < tars->count && !plan->statistics; i++) {
        char *path = bif_pack_ends_with(tars->path[i], ".tar") ? statistics_path(tars->path[i]) : bif_strdup("");
        plan->statistics = bif_exists(path);
        free(path);
    }
    if (st == BIF_OK && errors != NULL) {
        st = bif_writer_commit(errors);
        errors = NULL;
    }
done:
    bif_writer_abandon(errors);
    return st;
}

/* ---- a folder as a file of records ---- */

static bif_status walk(const char *root, const char *below, int depth, bif_pack_paths *out)
{
    bif_status st = BIF_OK;
    char *path = below[0] == '\0' ? bif_strdup(root) : bif_path_join(root, below);
    DIR *dir = opendir(path);
    if (dir == NULL) {
        st = bif_fail_errno(errno, "cannot list the folder '%s'", path);
        goto done;
    }
    for (struct dirent *entry; st == BIF_OK && (entry = readdir(dir)) != NULL;) {
        struct stat info;
        if (entry->d_name[0] == '.' || fstatat(dirfd(dir), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0) {
            continue;
        }
        char *name = below[0] == '\0' ? bif_strdup(entry->d_name) : bif_path_join(below, entry->d_name);
        if (!S_ISDIR(info.st_mode)) {
            add_path(out, name);
            continue;
        }
        st = depth < DEPTH ? walk(root, name, depth + 1, out)
                           : bif_fail(BIF_ERR_DATA, "'%s': folders are nested deeper than %d", path, DEPTH);
        free(name);
    }
done:
    if (dir != NULL) {
        closedir(dir);
    }
    free(path);
    return st;
}

static bool is_picture(const char *name)
{
    return bif_pack_ends_with(name, ".jpg") || bif_pack_ends_with(name, ".jpeg") || bif_pack_ends_with(name, ".png") ||
           bif_pack_ends_with(name, ".webp");
}

/* The caption of a file, malloc'ed. BIF_ERR_DATA: it is no good one. */
static bif_status read_caption(int root, const char *root_name, const char *name, char **out)
{
    bif_status st = BIF_OK;
    int fd = -1;
    size_t size = 0, used = 0;
    char *text = NULL;
    BIF_TRY(bif_open_beneath(root, root_name, name, &fd, &size));
    if (size > BIF_PACK_TEXT) {
        st = bif_fail(BIF_ERR_DATA, "'%s' has %zu bytes; a caption has at most %zu", name, size, BIF_PACK_TEXT);
        goto done;
    }
    text = bif_malloc(size + 1);
    while (used < size) {
        size_t got = 0;
        BIF_TRY(bif_read_some(fd, name, text + used, size - used, &got));
        if (got == 0) {
            break;
        }
        used += got;
    }
    BIF_TRY(bif_pack_caption(name, text, used));
    *out = text;
    text = NULL;
done:
    free(text);
    if (fd >= 0) {
        close(fd);
    }
    return st;
}

static json_t *listed(int root, const bif_pack_options *o, const bif_pack_paths *list, const char *name, bool *used)
{
    const char *end = strrchr(name, '.');
    char *text_name = bif_format("%.*s.txt", (int)(end - name), name), *caption = NULL, *reason = NULL;
    char **found = bsearch(&text_name, list->path, list->count, sizeof *list->path, by_path);
    json_t *plain = json_string(name), *row = json_object();
    if (found != NULL) {
        used[found - list->path] = true;
    }
    if (plain == NULL) {
        reason = bif_strdup("the name is not valid UTF-8");
    } else if (found == NULL && !o->image_only) {
        reason = bif_format("there is no '%s' beside it", bif_path_base(text_name));
    } else if (found != NULL && read_caption(root, o->input, text_name, &caption) != BIF_OK) {
        reason = bif_strdup(bif_error_message());
    } else if (caption != NULL && caption[0] == '\0' && !o->image_only) {
        reason = bif_format("the caption in '%s' is empty", bif_path_base(text_name));
    }
    json_object_set_new(row, "id", bif_pack_string(name));
    json_object_set_new(row, "image", bif_pack_string(name));
    if (reason != NULL) {
        json_object_set_new(row, "reason", bif_pack_string(reason));
    } else {
        json_object_set_new(row, "caption", json_string(caption == NULL ? "" : caption));
    }
    json_decref(plain);
    free(reason);
    free(caption);
    free(text_name);
    return row;
}

bif_status bif_pack_list_folder(bif_pack_plan *plan)
{
    bif_status st = BIF_OK;
    const bif_pack_options *o = plan->options;
    bif_pack_paths list = {0};
    bif_writer *out = NULL;
    bool *used = NULL;
    const int root = open(o->input, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) {
        BIF_TRY(bif_fail_errno(errno, "cannot open the folder '%s'", o->input));
    }
    BIF_TRY(walk(o->input, "", 0, &list));
    sort_paths(&list);
    used = bif_calloc(list.count, sizeof *used);
    BIF_TRY(bif_writer_open(plan->records, &out));
    for (int pass = 0; pass < 2; pass++) { /* texts without a picture come behind the pictures */
        for (size_t i = 0; i < list.count; i++) {
            json_t *row = NULL;
            if (pass == 0 && is_picture(list.path[i])) {
                row = listed(root, o, &list, list.path[i], used);
            } else if (pass == 1 && !used[i] && bif_pack_ends_with(list.path[i], ".txt")) {
                row = json_pack("{s:o,s:o,s:s}", "id", bif_pack_string(list.path[i]), "image", bif_pack_string(list.path[i]), "reason",
                                "there is no picture of this name beside it");
            }
            if (row != NULL) {
                char *line = json_dumps(row, JSON_COMPACT);
                st = bif_writer_write(out, line, strlen(line));
                st = st == BIF_OK ? bif_writer_write(out, "\n", 1) : st;
                free(line);
                json_decref(row);
                BIF_TRY(st);
            }
        }
    }
    st = bif_writer_commit(out);
    out = NULL;
done:
    bif_writer_abandon(out);
    if (root >= 0) {
        close(root);
    }
    free(used);
    bif_pack_paths_free(&list);
    return st;
}
