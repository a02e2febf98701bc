#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "data/loader_parts.h"

#define MOST_BYTES ((uint64_t)1 << 30) /* of one encoded picture: the shard, which is not trusted, sizes its buffer */

int64_t bif_loader_shard_of(const bif_loader *loader, uint64_t number, int64_t *local)
{
    const uint64_t sample = loader->kept != NULL ? loader->kept[number] : number;
    int64_t low = 0, high = loader->shards; /* first_sample[low] <= sample < first_sample[high] */
    while (high - low > 1) {
        int64_t middle = (low + high) / 2;
        if ((uint64_t)loader->first_sample[middle] <= sample) {
            low = middle;
        } else {
            high = middle;
        }
    }
    *local = (int64_t)sample - loader->first_sample[low];
    return low;
}

bif_status bif_loader_sample(const bif_loader *loader, uint64_t sample, const bif_shard **shard, int64_t *first_image,
                             bif_shard_sample *out)
{
    int64_t local = 0;
    const int64_t s = bif_loader_shard_of(loader, sample, &local);
    *shard = loader->shard[s];
    *first_image = loader->first_image[s];
    return bif_shard_get_sample(*shard, local, out);
}

void bif_loader_where(const bif_loader *loader, uint64_t sample, char *text, size_t size)
{
    int64_t local = 0;
    const int64_t s = bif_loader_shard_of(loader, sample, &local);
    snprintf(text, size, "%s:%" PRId64, bif_shard_path(loader->shard[s]), local);
}

void bif_loader_warn(bif_loader *loader, uint64_t sample)
{
    if (atomic_exchange_explicit(&loader->warned[sample], 1, memory_order_relaxed)) {
        return;
    }
    char where[512], own[2][600]; /* the ways in which the reason may name the shard already */
    int64_t local = 0;
    bif_loader_where(loader, sample, where, sizeof where);
    snprintf(own[0], sizeof own[0], "%s: ", where);
    snprintf(own[1], sizeof own[1], "shard '%s', ", bif_shard_path(loader->shard[bif_loader_shard_of(loader, sample, &local)]));
    const char *reason = bif_error_message();
    for (int i = 0; i < 2; i++) {
        reason += strncmp(reason, own[i], strlen(own[i])) == 0 ? strlen(own[i]) : 0;
    }
    bif_warn("%s: %s; sample skipped", where, reason);
}

/* The record of every picture, without reading its bytes: all ranks come to the same answer. */
static bif_status check_pictures(const bif_loader *loader, const char *where, const bif_shard *shard,
                                 const bif_shard_sample *sample)
{
    const bif_image_limits *limits = &loader->options.image_limits;
    const uint64_t most_pixels = limits->max_pixels > 0 ? (uint64_t)limits->max_pixels : 178956970u;
    const uint64_t most_side = limits->max_side > 0 ? (uint64_t)limits->max_side : 65535u;
    for (int64_t i = 0; i < sample->image_count; i++) {
        bif_shard_image image;
        bif_status st = bif_shard_get_image(shard, (int64_t)sample->images[i], &image);
        if (st != BIF_OK) {
            return st;
        }
        if (image.format == BIF_IMAGE_UNKNOWN || image.size == 0 || image.size > MOST_BYTES || image.width == 0 ||
            image.height == 0) {
            return bif_fail(BIF_ERR_DATA, "%s: image %" PRIu64 " has no usable record", where, sample->images[i]);
        }
        if (image.width > most_side || image.height > most_side || (uint64_t)image.width * image.height > most_pixels) {
            return bif_fail(BIF_ERR_DATA, "%s: image %" PRIu64 " is %" PRIu32 " x %" PRIu32 ", above the limit", where,
                            sample->images[i], image.width, image.height);
        }
    }
    return BIF_OK;
}

/* The caption, or the first answer of a conversation; borrowed from `json`. *caption: which of the two it was. */
static bif_status find_text(const char *where, const json_t *json, bool *caption, const char **text, size_t *size)
{
    const json_t *value = bif_caption_of(json);
    *caption = json_object_get(json, "caption") != NULL;
    if (!json_is_string(value)) {
        return bif_fail(BIF_ERR_DATA, "%s: neither a caption nor an answer", where);
    }
    *text = json_string_value(value);
    *size = json_string_length(value);
    while (*size > 0 && strchr(" \t\r\n", (*text)[*size - 1]) != NULL) {
        (*size)--;
    }
    while (*size > 0 && strchr(" \t\r\n", **text) != NULL) {
        (*text)++;
        (*size)--;
    }
    return *size > 0 ? BIF_OK : bif_fail(BIF_ERR_DATA, "%s: empty caption", where);
}

/* BOS? text EOS. A text that is too long is cut without EOS: a language model must not learn to stop there. */
static bif_status encode_plain(const bif_chat *chat, const char *where, const char *text, size_t size, bif_ids *ids)
{
    if (chat->bos >= 0) {
        bif_ids_push(ids, chat->bos);
    }
    bif_status st = bif_tokenizer_encode(chat->tokenizer, text, size, false, ids);
    if (st != BIF_OK) {
        return bif_fail_context(st, "%s", where);
    }
    bif_ids_push(ids, chat->eos);
    const size_t most = (size_t)chat->max_tokens;
    if (ids->count > most) {
        if (!chat->truncate) {
            return bif_fail(BIF_ERR_DATA, "%s: sample has %zu tokens, limit %zu", where, ids->count, most);
        }
        ids->count = most;
    }
    return BIF_OK;
}

/* The conversation through the template, pictures taken out again; one row each, so that they hardly count for the
 * limit. */
static bif_status encode_without_pictures(const bif_chat *chat, const char *where, const bif_shard_sample *sample,
                                          bif_encoded *out)
{
    bif_chat narrow = *chat;
    narrow.image = 0; /* the tokenizer of a language model may have no image token; the rows are found by position */
    narrow.image_tokens = 1;
    narrow.max_tokens += sample->image_count;
    bif_status st = bif_chat_encode(&narrow, where, sample->text, sample->text_size, sample->image_count, out);
    if (st != BIF_OK) {
        return st;
    }
    size_t kept = 0;
    int64_t picture = 0;
    for (size_t i = 0; i < out->ids.count; i++) {
        if (picture < out->images && out->image_start[picture] == (int64_t)i) {
            picture++;
        } else {
            out->ids.ids[kept++] = out->ids.ids[i];
        }
    }
    out->ids.count = kept < (size_t)chat->max_tokens ? kept : (size_t)chat->max_tokens;
    free(out->image_start);
    out->image_start = NULL;
    out->images = 0;
    return BIF_OK;
}

static void set_labels(bif_encoded *out, bool supervise)
{
    out->labels.count = 0;
    for (size_t i = 0; i < out->ids.count; i++) {
        bif_ids_push(&out->labels, supervise && i > 0 ? out->ids.ids[i] : BIF_LABEL_NONE);
    }
    out->supervised = supervise ? (int64_t)out->ids.count - 1 : 0;
}

static bif_status encode_text(const bif_loader *loader, const char *where, const bif_shard_sample *sample,
                              bif_encoded *out)
{
    bif_status st = BIF_OK;
    const bif_chat *chat = &loader->options.chat;
    const bool pair = loader->options.mode == BIF_LOADER_CAPTION;
    const char *text = NULL;
    size_t size = 0;
    bool caption = false;
    json_t *json = NULL;
    BIF_TRY(bif_json_parse(where, sample->text, sample->text_size, &json));
    BIF_TRY(find_text(where, json, &caption, &text, &size));
    if (pair) {
        BIF_TRY(bif_chat_caption(chat, where, text, size, chat->truncate, &out->ids));
    } else if (caption) {
        BIF_TRY(encode_plain(chat, where, text, size, &out->ids));
    } else {
        BIF_TRY(encode_without_pictures(chat, where, sample, out));
    }
    if (out->ids.count < 2) {
        st = bif_fail(BIF_ERR_DATA, "%s: fewer than two tokens", where);
        goto done;
    }
    set_labels(out, !pair);
    if (pair) { /* a picture that takes no rows */
        out->images = 1;
        out->image_start = bif_calloc(1, sizeof *out->image_start);
    }
done:
    json_decref(json);
    return st;
}

bif_status bif_loader_encode(const bif_loader *loader, int64_t epoch, uint64_t sample, bif_encoded *out)
{
    bif_status st = BIF_OK;
    char *other = NULL;
    const bif_loader_mode mode = loader->options.mode;
    const bif_shard *shard = NULL;
    int64_t first_image = 0;
    bif_shard_sample record;
    char where[512];
    bif_loader_where(loader, sample, where, sizeof where);
    *out = (bif_encoded){0};
    BIF_TRY(bif_loader_sample(loader, sample, &shard, &first_image, &record));
    if (mode == BIF_LOADER_CAPTION && record.image_count != 1) {
        st = bif_fail(BIF_ERR_DATA, "%s: a pair needs one picture, not %" PRId64, where, record.image_count);
        goto done;
    }
    if (mode != BIF_LOADER_TEXT) {
        BIF_TRY(check_pictures(loader, where, shard, &record));
    }
    if (bif_loader_takes_column(loader, epoch, sample)) {
        size_t size = 0;
        other = bif_loader_column_record(loader, sample, &record, &size);
        record.text = other != NULL ? other : record.text;
        record.text_size = other != NULL ? size : record.text_size;
    }
    if (mode == BIF_LOADER_CHAT) {
        BIF_TRY(bif_chat_encode(&loader->options.chat, where, record.text, record.text_size, record.image_count, out));
        if (out->images > loader->limits.images) {
            st = bif_fail(BIF_ERR_DATA, "%s: sample has %" PRId64 " pictures, a micro-batch holds %" PRId64, where,
                          out->images, loader->limits.images);
        }
    } else {
        BIF_TRY(encode_text(loader, where, &record, out));
    }
done:
    free(other);
    if (st != BIF_OK) {
        bif_encoded_free(out);
        *out = (bif_encoded){0};
    }
    return st;
}
