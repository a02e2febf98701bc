/* Captions from a text column beside the shards, for some visits or all. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/rng.h"
#include "data/column.h"
#include "data/loader_parts.h"

static bool is_text(const char *text)
{
    return text != NULL && text[strspn(text, " \t\r\n")] != '\0';
}

/* Whether the sample's text is a caption, which another may stand for: pairs have nothing else; a {"caption"}; and, in the template that
 * discards questions, the one answer of a conversation. */
static bool is_caption(const bif_loader *loader, const bif_shard_sample *record)
{
    json_t *json = NULL;
    if (loader->options.mode == BIF_LOADER_CAPTION) {
        return true;
    }
    if (bif_json_parse("sample", record->text, record->text_size, &json) != BIF_OK) {
        bif_error_clear(); /* told where the record is used */
        return false;
    }
    const json_t *turns = json_object_get(json, "conversations");
    const bool plain = loader->options.mode == BIF_LOADER_CHAT && loader->options.chat.kind == BIF_TEMPLATE_PLAIN;
    const bool is = json_object_get(json, "caption") != NULL || (plain && json_array_size(turns) == 2);
    json_decref(json);
    return is;
}

bif_status bif_loader_captions_open(bif_loader *loader)
{
    bif_status st = BIF_OK;
    bif_digest *digest = bif_digest_new();
    bool any = false;
    loader->caption = bif_calloc((size_t)loader->shards, sizeof *loader->caption);
    bif_digest_update(digest, loader->digest, 32);
    for (int64_t s = 0; s < loader->shards; s++) {
        BIF_TRY(bif_column_need_captions(loader->shard[s], loader->options.caption_column, &loader->caption[s]));
        for (int64_t i = 0; i < bif_shard_samples(loader->shard[s]); i++) {
            const char *text = bif_column_text(loader->caption[s], i);
            bif_shard_sample record;
            any = any || (is_text(text) && bif_shard_get_sample(loader->shard[s], i, &record) == BIF_OK && is_caption(loader, &record));
            bif_digest_update(digest, text != NULL ? text : "\xff", text != NULL ? strlen(text) + 1 : 1); /* no text holds the byte 0xff */
        }
    }
    if (!any && loader->options.rank == 0) {
        bif_warn("column '%s' is not used: no sample takes a text of it (captions do, and with template plain single answers; other "
                 "conversations keep their own)",
                 loader->options.caption_column);
    }
done:
    bif_digest_finish(digest, loader->digest);
    return st;
}

void bif_loader_captions_close(bif_loader *loader)
{
    for (int64_t s = 0; loader->caption != NULL && s < loader->shards; s++) {
        bif_column_close(loader->caption[s]);
    }
    free(loader->caption);
}

bool bif_loader_takes_column(const bif_loader *loader, int64_t epoch, uint64_t sample)
{
    const bif_loader_options *o = &loader->options;
    if (loader->caption == NULL) {
        return false;
    }
    const uint64_t index = (uint64_t)epoch * (uint64_t)loader->samples + sample;
    return o->caption_mix >= 1.0 || (double)bif_rng_uniform(o->seed, BIF_RNG_CAPTION, index, 0) < o->caption_mix;
}

char *bif_loader_column_record(const bif_loader *loader, uint64_t sample, const bif_shard_sample *record, size_t *size)
{
    int64_t local = 0;
    const int64_t s = bif_loader_shard_of(loader, sample, &local);
    const char *text = bif_column_text(loader->caption[s], local);
    if (!is_text(text) || !is_caption(loader, record)) {
        return NULL;
    }
    json_t *json = json_pack("{s:s}", "caption", text);
    char *out = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    *size = out != NULL ? strlen(out) : 0;
    return out;
}
