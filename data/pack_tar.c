/* Members of a tar grouped into samples, as webdataset's group_by_keys does it. */
#include <stdlib.h>
#include <string.h>

#include "data/pack_parts.h"

#define GROUP_CAP 1024 /* members of one key */

typedef enum { JPG, JPEG, PNG, WEBP, TXT, JSON, KINDS } member_kind;
static const char *const endings[KINDS] = {"jpg", "jpeg", "png", "webp", "txt", "json"};

typedef struct {
    char *name;
    uint64_t at, size;
} member;

struct bif_pack_groups {
    bif_tar *tar;
    const bif_pack_options *options;
    member next; /* read ahead: the first of the next group; name NULL = none */
    bool ended;
    int64_t number;
    char *lost;
};

bif_pack_groups *bif_pack_groups_open(bif_tar *tar, const bif_pack_options *options)
{
    bif_pack_groups *groups = bif_calloc(1, sizeof *groups);
    *groups = (bif_pack_groups){.tar = tar, .options = options};
    return groups;
}

void bif_pack_groups_close(bif_pack_groups *groups)
{
    if (groups != NULL) {
        free(groups->next.name);
        free(groups->lost);
        free(groups);
    }
}

const char *bif_pack_groups_lost(const bif_pack_groups *groups)
{
    return groups->lost;
}

/* Length of the key: up to the first dot of the base name. 0: the member has no ending or is hidden, and belongs to no sample. */
static size_t key_length(const char *name)
{
    const char *base = bif_path_base(name), *dot = strchr(base, '.');
    const size_t n = strlen(base);
    const bool meta = base == name && n >= 4 && strncmp(base, "__", 2) == 0 && strcmp(base + n - 2, "__") == 0;
    return dot == NULL || dot == base || meta ? 0 : (size_t)(dot - name);
}

/* The next member of some sample into groups->next; its name stays NULL at the end. */
static bif_status read_ahead(bif_pack_groups *groups)
{
    bif_status st = BIF_OK;
    while (groups->next.name == NULL && !groups->ended) {
        bif_tar_member one = {0};
        bool more = false, behind = false;
        st = bif_tar_next(groups->tar, &one, &more);
        groups->ended = st != BIF_OK || !more;
        if (st == BIF_ERR_DATA) {
            groups->lost = bif_format("only a part of it was read: %s", bif_error_message());
        } else if (st == BIF_OK && !more && bif_tar_behind(groups->tar, &behind) == BIF_OK && behind) {
            groups->lost = bif_strdup("more follows behind its end mark (tars joined to one?), which was not read");
        }
        if (!groups->ended && key_length(one.name) > 0) {
            groups->next = (member){bif_strdup(one.name), one.at, one.size};
        }
    }
    return st;
}

/* ---- the texts of a group ---- */

/* Python writes NaN and Infinity into JSON, which has no such numbers: zeros in their place. Words within strings stay. */
static void tame_numbers(char *text, size_t size)
{
    bool quoted = false, escaped = false;
    for (size_t i = 0; i < size; i++) {
        if (quoted) {
            quoted = escaped || text[i] != '"';
            escaped = !escaped && text[i] == '\\';
        } else if (text[i] == '"') {
            quoted = true;
        } else {
            const size_t word = size - i >= 3 && memcmp(text + i, "NaN", 3) == 0        ? 3
                                : size - i >= 8 && memcmp(text + i, "Infinity", 8) == 0 ? 8
                                                                                        : 0;
            if (word > 0) {
                memset(text + i, ' ', word);
                text[i] = '0';
                i += word - 1;
            }
        }
    }
}

static bif_status read_text(const bif_pack_groups *groups, const member *from, char **out)
{
    if (from->size > BIF_PACK_TEXT) {
        return bif_fail(BIF_ERR_DATA, "'%s' has %llu bytes; at most %zu are taken", from->name, (unsigned long long)from->size,
                        BIF_PACK_TEXT);
    }
    *out = bif_malloc((size_t)from->size + 1);
    const bif_status st = bif_tar_read(groups->tar, from->at, *out, (size_t)from->size);
    (*out)[st == BIF_OK ? from->size : 0] = '\0';
    return st;
}

/* A string without zero bytes, or an integer, malloc'ed; NULL: there is none. */
static bif_status word(const char *name, const json_t *object, const char *key, char **out)
{
    const json_t *value = json_object_get(object, key);
    *out = NULL;
    if (json_is_string(value)) {
        if (strlen(json_string_value(value)) != json_string_length(value)) {
            return bif_fail(BIF_ERR_DATA, "'%s': '%s' has a zero byte in it", name, key);
        }
        *out = bif_strdup(json_string_value(value));
    } else if (json_is_integer(value)) {
        *out = bif_format("%lld", (long long)json_integer_value(value));
    } else if (value != NULL && !json_is_null(value)) {
        return bif_fail(BIF_ERR_DATA, "'%s': '%s' is neither a string nor an integer", name, key);
    }
    return BIF_OK;
}

/* The JSON of a group. Other programs' fields may hold zero bytes; those of conversations are not let through. */
static bif_status parse(const member *from, char *text, json_t **out)
{
    json_error_t error;
    const size_t size = (size_t)from->size;
    tame_numbers(text, size);
    *out = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    if (*out == NULL) {
        *out = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
        if (*out == NULL) {
            return bif_fail(BIF_ERR_DATA, "'%s' is not valid JSON (byte %d): %s", from->name, error.position, error.text);
        }
        if (json_object_get(*out, "conversations") != NULL) {
            return bif_fail(BIF_ERR_DATA, "'%s' holds zero bytes", from->name);
        }
    }
    return json_is_object(*out) ? BIF_OK : bif_fail(BIF_ERR_DATA, "'%s' is not a JSON object", from->name);
}

/* Id and text, from the members found (NULL = not there). */
static bif_status read_texts(const bif_pack_groups *groups, member *const *found, bif_pack_item *item)
{
    bif_status st = BIF_OK;
    char *text = NULL, *caption = NULL, *other = NULL;
    json_t *value = NULL, *record = json_object();
    const bool picture = item->pictures > 0;
    free(item->id);
    item->id = NULL;
    if (found[JSON] != NULL) {
        BIF_TRY(read_text(groups, found[JSON], &text));
        BIF_TRY(parse(found[JSON], text, &value));
        BIF_TRY(word(found[JSON]->name, value, "uid", &item->id));
        BIF_TRY(item->id == NULL ? word(found[JSON]->name, value, "key", &item->id) : BIF_OK);
        BIF_TRY(word(found[JSON]->name, value, "caption", &other));
    }
    item->id = item->id != NULL ? item->id : bif_strdup(item->key);
    const json_t *turns = json_object_get(value, "conversations");
    if (turns != NULL && !json_is_null(turns)) {
        json_object_set(record, "conversations", json_object_get(value, "conversations"));
        BIF_TRY(bif_pack_text(record, item->pictures, &item->text, &item->image_only));
        goto done;
    }
    if (!picture) {
        st = bif_fail(BIF_ERR_DATA, "there is no picture (jpg, jpeg, png, webp)");
        goto done;
    }
    if (found[TXT] != NULL) {
        BIF_TRY(read_text(groups, found[TXT], &caption));
        BIF_TRY(bif_pack_caption(found[TXT]->name, caption, (size_t)found[TXT]->size));
    }
    if (caption == NULL || caption[0] == '\0') {
        free(caption);
        caption = other;
        other = NULL;
        BIF_TRY(caption != NULL ? bif_pack_caption(found[JSON]->name, caption, strlen(caption)) : BIF_OK);
    }
    if ((caption == NULL || caption[0] == '\0') && !groups->options->image_only) {
        st = bif_fail(BIF_ERR_DATA, "there is no caption");
        goto done;
    }
    json_object_set_new(record, "caption", json_string(caption == NULL ? "" : caption));
    BIF_TRY(bif_pack_text(record, item->pictures, &item->text, &item->image_only));
done:
    json_decref(value);
    json_decref(record);
    free(other);
    free(caption);
    free(text);
    return st;
}

/* ---- groups ---- */

/* What a group's members are for. */
static bif_status sort_members(const bif_pack_groups *groups, member *list, size_t count, bif_pack_item *item)
{
    bif_status st = BIF_OK;
    member *found[KINDS] = {NULL}, *picture = NULL;
    for (size_t i = 0; i < count; i++) {
        const char *ending = list[i].name + key_length(list[i].name) + 1;
        for (int k = 0; k < KINDS; k++) {
            if (strcasecmp(ending, endings[k]) != 0) {
                continue;
            }
            if (found[k] != NULL || (k < TXT && picture != NULL)) {
                return bif_fail(BIF_ERR_DATA, "'%s' and '%s' are there for one key; one of a kind is taken",
                                found[k] != NULL ? found[k]->name : picture->name, list[i].name);
            }
            found[k] = &list[i];
            picture = k < TXT ? found[k] : picture;
        }
    }
    if (picture != NULL) {
        item->picture = bif_calloc(1, sizeof *item->picture);
        item->picture[item->pictures++] = (bif_pack_picture){
            .name = bif_strdup(picture->name), .at = (int64_t)picture->at, .size = picture->size};
    }
    BIF_TRY(read_texts(groups, found, item));
    BIF_TRY(bif_pack_check_sizes(groups->options, item));
done:
    return st;
}

bif_status bif_pack_groups_next(bif_pack_groups *groups, bif_pack_item *item, bool *more)
{
    bif_status st = BIF_OK;
    member *list = NULL;
    size_t count = 0, length = 0;
    *item = (bif_pack_item){.number = ++groups->number};
    *more = true;
    BIF_TRY(read_ahead(groups));
    *more = groups->next.name != NULL;
    if (!*more) {
        goto done;
    }
    length = key_length(groups->next.name);
    item->key = bif_format("%.*s", (int)length, groups->next.name);
    item->id = bif_strdup(item->key);
    do {
        if (count == GROUP_CAP) {
            free(list[--count].name);
            bif_pack_item_failed(item, bif_fail(BIF_ERR_DATA, "more than %d members have this key", GROUP_CAP));
        }
        list = bif_realloc(list, count + 1, sizeof *list);
        list[count++] = groups->next;
        groups->next = (member){0};
        BIF_TRY(read_ahead(groups)); /* damage: the group at hand may be incomplete, and is bad */
    } while (groups->next.name != NULL && key_length(groups->next.name) == length && memcmp(groups->next.name, item->key, length) == 0);
    BIF_TRY(sort_members(groups, list, count, item));
done:
    for (size_t i = 0; i < count; i++) {
        free(list[i].name);
    }
    free(list);
    bif_pack_item_failed(item, st);
    return st == BIF_ERR_DATA ? BIF_OK : st;
}
