#include "data/stats_parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/json.h"
#include "base/log.h"
#include "base/utf8.h"
#include "data/language.h"
#include "data/text_measures.h"

static bif_status hold(bif_stats_work *w, int64_t bytes)
{
    w->held += bytes;
    return w->held <= w->options->memory
               ? BIF_OK
               : bif_fail(BIF_ERR_MEMORY, "these statistics need more than %lld MiB; raise --memory-mib (at least %lld so far)",
                          (long long)(w->options->memory >> 20), (long long)(w->held >> 20) + 1);
}

/* ---- words ---- */

static void put_word(bif_stats_words *set, uint64_t hash, uint8_t level)
{
    int64_t at = (int64_t)(hash & (uint64_t)(set->room - 1));
    while (set->hash[at] != 0 && set->hash[at] != hash) {
        at = (at + 1) & (set->room - 1);
    }
    if (set->hash[at] == 0) {
        set->hash[at] = hash;
        set->used++;
    }
    set->level[at] = set->level[at] < level ? level : set->level[at];
}

static bif_status add_word(bif_stats_work *w, uint64_t hash, uint8_t level)
{
    bif_stats_words *set = &w->words;
    if (2 * set->used >= set->room) {
        bif_stats_words larger = {.room = set->room == 0 ? 4096 : 2 * set->room};
        const bif_status st = hold(w, (larger.room - set->room) * 9);
        if (st != BIF_OK) {
            return st;
        }
        larger.hash = bif_calloc((size_t)larger.room, sizeof *larger.hash);
        larger.level = bif_calloc((size_t)larger.room, sizeof *larger.level);
        for (int64_t i = 0; i < set->room; i++) {
            if (set->hash[i] != 0) {
                put_word(&larger, set->hash[i], set->level[i]);
            }
        }
        free(set->hash);
        free(set->level);
        *set = larger;
    }
    put_word(set, hash == 0 ? 1 : hash, level);
    return BIF_OK;
}

/* Words between white space and punctuation of ASCII, ASCII letters in lower case. */
static bif_status count_words(bif_stats_work *w, const char *text, size_t size, uint8_t level, int64_t *words)
{
    bif_status st = BIF_OK;
    char word[64];
    for (size_t at = 0; at < size && st == BIF_OK;) {
        size_t used = 0, length = 0;
        for (; at < size; at++, length++) {
            const unsigned char c = (unsigned char)text[at];
            const bool upper = c >= 'A' && c <= 'Z';
            if (!upper && c < 0x80 && !(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '\'') {
                break;
            }
            if (used < sizeof word) {
                word[used++] = (char)(upper ? c | 32 : c);
            }
        }
        if (length == 0) {
            at++;
            continue;
        }
        ++*words;
        st = add_word(w, XXH3_64bits(word, used), level);
    }
    return st;
}

/* ---- samples ---- */

static int64_t *find_source(const bif_stats_work *w, const char *name)
{
    const bif_stats_index *index = &w->sources;
    int64_t at = (int64_t)(XXH3_64bits(name, strlen(name)) & (uint64_t)(index->room - 1));
    while (index->row[at] >= 0 && strcmp(w->stats->sources.row[index->row[at]].name, name) != 0) {
        at = (at + 1) & (index->room - 1);
    }
    return &index->row[at];
}

static bif_status count_source(bif_stats_work *w, const char *source, uint8_t level)
{
    bif_status st = BIF_OK;
    bif_stat_classes *classes = &w->stats->sources;
    bif_stats_index *index = &w->sources;
    char *name = bif_utf8_spelled(source, strlen(source));
    if (2 * classes->count >= index->room) {
        const int64_t room = index->room == 0 ? 64 : 2 * index->room;
        BIF_TRY(hold(w, (room - index->room) * (int64_t)sizeof *index->row));
        free(index->row);
        *index = (bif_stats_index){bif_malloc((size_t)room * sizeof *index->row), room};
        memset(index->row, 0xff, (size_t)room * sizeof *index->row);
        for (int64_t i = 0; i < classes->count; i++) {
            *find_source(w, classes->row[i].name) = i;
        }
    }
    int64_t *row = find_source(w, name);
    if (*row < 0) {
        BIF_TRY(hold(w, (int64_t)strlen(name) + 1 + (w->stats->stages + 2) * (int64_t)sizeof(int64_t)));
        *row = classes->count;
        bif_stats_new_class(w, classes, name);
    }
    classes->row[*row].count[level]++;
done:
    free(name);
    return st;
}

static void measure(bif_stats_work *w, bif_stat_measure which, int64_t value, uint8_t level)
{
    bif_stats_values *v = &w->measure[which];
    v->value[v->count++] = (uint64_t)value << 8 | level;
}

/* The answers of a conversation, one a line; malloc'ed. */
static char *answers(const json_t *turns)
{
    char *text = NULL;
    size_t size = 0, i = 0;
    FILE *out = open_memstream(&text, &size);
    BIF_BUG_IF(out == NULL, "out of memory for a conversation");
    const json_t *turn = NULL;
    json_array_foreach(turns, i, turn)
    {
        const char *from = json_string_value(json_object_get(turn, "from")), *value = json_string_value(json_object_get(turn, "value"));
        if (from != NULL && value != NULL && strcmp(from, "gpt") == 0) {
            fprintf(out, "%s%s", ftell(out) > 0 ? "\n" : "", value);
        }
    }
    fclose(out);
    return text;
}

static bif_status count_text(bif_stats_work *w, const char *text, uint8_t level)
{
    bif_status st = BIF_OK;
    int64_t(*count)[BIF_STATS] = w->stats->count;
    const size_t size = strlen(text);
    const bif_text_measures m = bif_text_measure(text, size);
    int64_t words = 0;
    measure(w, BIF_MEASURE_CHARS, m.chars, level);
    BIF_TRY(count_words(w, text, size, level, &words));
    measure(w, BIF_MEASURE_WORDS, words, level);
    count[level][BIF_STAT_WORDS] += words;
    bif_text_key(text, size, w->texts[w->text_count].key);
    w->texts[w->text_count++].level = level;
    bif_stats_count_of(w, &w->stats->languages, bif_language_of(text, size))[level]++;
    bif_stats_count_of(w, &w->stats->scripts, m.script < 0 ? "none" : bif_script_codes[m.script])[level]++;
    if (w->options->tokenizer != NULL) {
        w->ids.count = 0;
        BIF_TRY(bif_tokenizer_encode(w->options->tokenizer, text, size, false, &w->ids));
        for (size_t i = 0; i < w->ids.count; i++) {
            uint8_t *used = &w->token_level[w->ids.ids[i]];
            *used = *used < level + 1 ? (uint8_t)(level + 1) : *used;
        }
        measure(w, BIF_MEASURE_TOKENS, (int64_t)w->ids.count, level);
        count[level][BIF_STAT_TOKENS] += (int64_t)w->ids.count;
    }
    if (w->concept != NULL) {
        bif_concepts_match(w->options->concepts, text, size, &w->found);
        for (int64_t i = 0; i < w->found.count; i++) {
            w->concept[level * w->stats->concepts + w->found.id[i]]++;
        }
    }
done:
    return st;
}

static bif_status count_sample(bif_stats_work *w, const bif_shard_sample *sample, uint8_t level)
{
    bif_status st = BIF_OK;
    json_t *value = NULL;
    char *text = NULL;
    int64_t *count = w->stats->count[level];
    count[BIF_STAT_SAMPLES]++;
    count[BIF_STAT_TEXT_ONLY] += sample->image_count == 0;
    count[BIF_STAT_ONE_IMAGE] += sample->image_count == 1;
    count[BIF_STAT_MANY_IMAGES] += sample->image_count > 1;
    count[BIF_STAT_TEXT_BYTES] += (int64_t)sample->text_size;
    BIF_TRY(count_source(w, sample->source, level));
    const bool good = bif_json_parse("text", sample->text, sample->text_size, &value) == BIF_OK;
    const json_t *turns = json_object_get(value, "conversations"), *caption = json_object_get(value, "caption");
    if (good && json_is_array(turns)) {
        count[BIF_STAT_CONVERSATIONS]++;
        count[BIF_STAT_TURNS] += (int64_t)json_array_size(turns);
        count[BIF_STAT_IMAGE_ONLY] += json_array_size(turns) == 0 && sample->image_count > 0;
        text = answers(turns);
    } else if (good && json_is_string(caption)) {
        count[BIF_STAT_CAPTIONS]++;
        text = bif_strdup(json_string_value(caption));
    } else {
        count[BIF_STAT_BAD_TEXTS]++;
        bif_error_clear();
    }
    if (text != NULL) {
        BIF_TRY(count_text(w, text, level));
    }
done:
    free(text);
    json_decref(value);
    return st;
}

static bif_status count_images(bif_stats_work *w, const bif_shard *shard)
{
    static const char *const names[] = {"unknown", "jpeg", "png", "webp"};
    bif_status st = BIF_OK;
    bif_column *pixels = NULL;
    if (!w->no_pixels) {
        BIF_TRY(bif_column_open(shard, "pixels", &pixels));
    }
    w->no_pixels = w->no_pixels || (pixels == NULL && bif_shard_images(shard) > 0);
    if (pixels != NULL && (bif_column_describe(pixels)->type != BIF_COLUMN_U64 || bif_column_describe(pixels)->width != 2 ||
                           bif_column_describe(pixels)->of != BIF_COLUMN_OF_IMAGE)) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "shard '%s': its column 'pixels' is not what bifocal data hash writes; make it anew", bif_shard_path(shard)));
    }
    const uint64_t *digest = pixels == NULL ? NULL : bif_column_data(pixels);
    for (int64_t i = 0; i < bif_shard_images(shard); i++) {
        bif_shard_image image = {0};
        BIF_TRY(bif_shard_get_image(shard, i, &image));
        const uint8_t level = w->image_level[i];
        const int64_t longer = image.width > image.height ? image.width : image.height;
        const int64_t shorter = image.width > image.height ? image.height : image.width;
        measure(w, BIF_MEASURE_WIDTH, image.width, level);
        measure(w, BIF_MEASURE_HEIGHT, image.height, level);
        measure(w, BIF_MEASURE_ASPECT, shorter == 0 ? 0 : longer * 100 / shorter, level);
        measure(w, BIF_MEASURE_BYTES, (int64_t)(image.size >> 56 ? 0 : image.size), level);
        w->images[w->image_count++] = (bif_stats_keyed){{image.id[0], image.id[1]}, level};
        w->stats->count[level][BIF_STAT_IMAGES]++;
        w->stats->count[level][BIF_STAT_IMAGE_BYTES] += (int64_t)image.size;
        bif_stats_count_of(w, &w->stats->formats, names[image.format])[level]++;
        if (digest != NULL && (digest[2 * i] | digest[2 * i + 1]) == 0) {
            w->stats->count[level][BIF_STAT_UNDECODABLE]++;
        } else if (digest != NULL) {
            w->pixels[w->pixel_count++] = (bif_stats_keyed){{digest[2 * i], digest[2 * i + 1]}, level};
        }
    }
done:
    bif_column_close(pixels);
    return st;
}

static bif_status count_clusters(bif_stats_work *w, const bif_shard *shard)
{
    bif_status st = BIF_OK;
    bif_column *column = NULL;
    char *name = bif_format("%s.cluster", w->options->clusters);
    const int64_t images = bif_shard_images(shard), stages = w->stats->stages;
    BIF_TRY(bif_column_need(shard, name, BIF_COLUMN_OF_IMAGE, BIF_COLUMN_U32, 1, "run bifocal data cluster", &column));
    const uint32_t *cluster = bif_column_data(column);
    int64_t most = w->clusters;
    for (int64_t i = 0; i < images; i++) {
        most = cluster[i] != UINT32_MAX && cluster[i] >= most ? (int64_t)cluster[i] + 1 : most;
    }
    if (most > w->clusters) {
        BIF_TRY(hold(w, (most - w->clusters) * stages * (int64_t)sizeof *w->cluster));
        int64_t *larger = bif_calloc((size_t)(most * stages), sizeof *larger);
        for (int64_t k = 0; k < stages && w->clusters > 0; k++) {
            memcpy(larger + k * most, w->cluster + k * w->clusters, (size_t)w->clusters * sizeof *larger);
        }
        free(w->cluster);
        w->cluster = larger;
        w->clusters = most;
    }
    for (int64_t i = 0; i < images; i++) {
        if (cluster[i] != UINT32_MAX) {
            w->cluster[w->image_level[i] * w->clusters + cluster[i]]++;
        }
    }
done:
    bif_column_close(column);
    free(name);
    return st;
}

static bif_status read_shard(bif_stats_work *w, int64_t number)
{
    bif_status st = BIF_OK;
    bif_shard *shard = NULL;
    BIF_TRY(bif_pool_shard(w->options->pool, number, &shard));
    const int64_t first = w->options->pool->first_sample[number];
    w->image_level = bif_calloc((size_t)bif_shard_images(shard) + 1, 1);
    for (int64_t i = 0; i < bif_shard_samples(shard); i++) {
        bif_shard_sample sample = {0};
        const uint8_t level = w->stats->level[first + i];
        BIF_TRY(bif_shard_get_sample(shard, i, &sample));
        for (int64_t k = 0; k < sample.image_count; k++) {
            uint8_t *of_image = &w->image_level[sample.images[k]];
            *of_image = *of_image < level ? level : *of_image;
        }
        BIF_TRY(count_sample(w, &sample, level));
    }
    BIF_TRY(count_images(w, shard));
    if (w->options->clusters != NULL) {
        BIF_TRY(count_clusters(w, shard));
    }
    bif_progress("%" PRId64 " of %" PRId64 " shards", number + 1, w->options->pool->shards);
done:
    free(w->image_level);
    w->image_level = NULL;
    bif_shard_close(shard);
    return st;
}

/* ---- the whole ---- */

static void find_levels(bif_stats_work *w)
{
    const bif_selection *selection = w->options->selection;
    bif_data_stats *s = w->stats;
    s->stages = 1 + (selection == NULL ? 0 : bif_selection_steps(selection));
    s->stage = bif_calloc((size_t)s->stages, sizeof *s->stage);
    s->stage[0] = bif_strdup("all");
    memset(s->level, (int)(s->stages - 1), (size_t)w->options->pool->samples);
    for (int64_t k = 1; k < s->stages; k++) {
        const bif_selection_step step = bif_selection_get(selection, k - 1);
        s->stage[k] = bif_format("%" PRId64 " %s", k, step.verb);
        for (int64_t i = 0; i < step.count; i++) {
            if (step.records[i].times == 0) {
                s->level[step.records[i].sample] = (uint8_t)(k - 1);
            }
        }
    }
}

bif_status bif_data_stats_read(const bif_stats_options *options, bif_data_stats *out)
{
    bif_status st = BIF_OK;
    const bif_pool *pool = options->pool;
    bif_stats_work w = {.options = options, .stats = out};
    *out = (bif_data_stats){.shards = pool->shards};
    if (options->selection != NULL && bif_selection_steps(options->selection) > 254) {
        BIF_TRY(bif_fail(BIF_ERR_DATA, "a selection of more than 254 steps"));
    }
    const int64_t longer = pool->samples > pool->images ? pool->samples : pool->images;
    BIF_TRY(hold(&w, longer * (int64_t)sizeof(bif_stats_keyed))); /* glibc's qsort takes as much again as it sorts */
    BIF_TRY(hold(&w, pool->samples * (1 + (int64_t)sizeof(bif_stats_keyed) + 3 * 8) + pool->images * (1 + 2 * (int64_t)sizeof(bif_stats_keyed) + 4 * 8)));
    out->level = bif_malloc((size_t)pool->samples);
    find_levels(&w);
    out->count = bif_calloc((size_t)out->stages, sizeof *out->count);
    out->measure = bif_calloc((size_t)out->stages, sizeof *out->measure);
    for (int i = 0; i < BIF_MEASURES; i++) {
        w.measure[i].value = bif_malloc((size_t)(i < BIF_MEASURE_CHARS ? pool->images : pool->samples) * sizeof(uint64_t) + 1);
    }
    w.images = bif_malloc((size_t)pool->images * sizeof *w.images + 1);
    w.pixels = bif_malloc((size_t)pool->images * sizeof *w.pixels + 1);
    w.texts = bif_malloc((size_t)pool->samples * sizeof *w.texts + 1);
    if (options->tokenizer != NULL) {
        w.token_level = bif_calloc((size_t)bif_tokenizer_vocab(options->tokenizer), 1);
    }
    if (options->concepts != NULL) {
        out->concepts = bif_concepts_describe(options->concepts).entries;
        BIF_TRY(hold(&w, out->concepts * out->stages * (int64_t)sizeof *w.concept));
        w.concept = bif_calloc((size_t)(out->concepts * out->stages), sizeof *w.concept);
    }
    if (options->clusters != NULL) {
        out->embeddings = bif_strdup(options->clusters);
    }
    for (int64_t i = 0; i < pool->shards; i++) {
        BIF_TRY(read_shard(&w, i));
    }
    bif_stats_finish(&w);
done:
    for (int i = 0; i < BIF_MEASURES; i++) {
        free(w.measure[i].value);
    }
    free(w.images);
    free(w.pixels);
    free(w.texts);
    free(w.words.hash);
    free(w.words.level);
    free(w.sources.row);
    free(w.token_level);
    free(w.concept);
    free(w.cluster);
    bif_ids_free(&w.ids);
    bif_concepts_found_free(&w.found);
    if (st != BIF_OK) {
        bif_data_stats_free(out);
    }
    return st;
}

static void free_classes(bif_stat_classes *classes)
{
    for (int64_t i = 0; i < classes->count; i++) {
        free(classes->row[i].name);
        free(classes->row[i].count);
    }
    free(classes->row);
}

void bif_data_stats_free(bif_data_stats *s)
{
    for (int64_t k = 0; s->stage != NULL && k < s->stages; k++) {
        free(s->stage[k]);
    }
    bif_stat_classes *const all[] = {&s->formats,    &s->sources,   &s->languages,   &s->scripts,
                                     &s->same_images, &s->same_texts, &s->top_concepts};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        free_classes(all[i]);
    }
    free(s->stage);
    free(s->level);
    free(s->count);
    free(s->measure);
    free(s->concept);
    free(s->clusters);
    free(s->vendi);
    free(s->embeddings);
    *s = (bif_data_stats){0};
}
