#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "data/stats.h"

const bif_stat_name bif_stat_names[BIF_STATS] = {
    [BIF_STAT_SAMPLES] = {"samples", "samples"},
    [BIF_STAT_VISITS] = {"visits", "  visits of an epoch"},
    [BIF_STAT_TEXT_ONLY] = {"text_only", "  text only"},
    [BIF_STAT_ONE_IMAGE] = {"one_image", "  one image"},
    [BIF_STAT_MANY_IMAGES] = {"many_images", "  many images"},
    [BIF_STAT_IMAGE_ONLY] = {"image_only", "  image only (not trained on)"},
    [BIF_STAT_CAPTIONS] = {"captions", "  with a caption"},
    [BIF_STAT_CONVERSATIONS] = {"conversations", "  with a conversation"},
    [BIF_STAT_BAD_TEXTS] = {"bad_texts", "  with a bad text"},
    [BIF_STAT_DISTINCT_TEXTS] = {"distinct_texts", "distinct texts (all answers)"},
    [BIF_STAT_TURNS] = {"turns", "turns"},
    [BIF_STAT_TEXT_BYTES] = {"text_bytes", "text bytes"},
    [BIF_STAT_WORDS] = {"words", "words"},
    [BIF_STAT_DISTINCT_WORDS] = {"distinct_words", "  distinct"},
    [BIF_STAT_TOKENS] = {"tokens", "tokens"},
    [BIF_STAT_TOKENS_USED] = {"tokens_used", "  of the vocabulary used"},
    [BIF_STAT_IMAGES] = {"images", "images"},
    [BIF_STAT_DISTINCT_IMAGES] = {"distinct_images", "  distinct"},
    [BIF_STAT_DISTINCT_PIXELS] = {"distinct_pixels", "  with distinct pixels"},
    [BIF_STAT_UNDECODABLE] = {"undecodable", "  that cannot be decoded"},
    [BIF_STAT_IMAGE_BYTES] = {"image_bytes", "image bytes"},
};

const bif_stat_name bif_stat_measure_names[BIF_MEASURES] = {
    [BIF_MEASURE_WIDTH] = {"width", "width"},
    [BIF_MEASURE_HEIGHT] = {"height", "height"},
    [BIF_MEASURE_ASPECT] = {"aspect_hundredths", "longer side by shorter, x 100"},
    [BIF_MEASURE_BYTES] = {"bytes_of_an_image", "bytes of an image"},
    [BIF_MEASURE_CHARS] = {"characters_of_a_text", "characters of a text"},
    [BIF_MEASURE_WORDS] = {"words_of_a_text", "words of a text"},
    [BIF_MEASURE_TOKENS] = {"tokens_of_a_text", "tokens of a text"},
};

#define SHOWN 20 /* rows of a class in the terminal's table */

/* A label in its column, cut after 60 code points. Sources are named by shards, so what moves a terminal is spelled. */
static void put_label(FILE *out, const char *label)
{
    char *shown = bif_utf8_printable(label, strlen(label), false);
    int letters = 0;
    for (const char *at = shown; *at != '\0'; at++) {
        const bool begins = ((unsigned char)*at & 0xC0) != 0x80;
        if (begins && letters == 60) {
            break;
        }
        letters += begins;
        fputc(*at, out);
    }
    fprintf(out, "%*s", letters < 30 ? 30 - letters : 0, "");
    free(shown);
}

static void put_row(FILE *out, const char *label, const bif_data_stats *s, const int64_t *count, int64_t stride)
{
    put_label(out, label);
    for (int64_t k = 0; k < s->stages; k++) {
        fprintf(out, " %15" PRId64, count[k * stride]);
    }
    fputc('\n', out);
}

static void put_classes(FILE *out, const char *title, const bif_data_stats *s, const bif_stat_classes *classes)
{
    if (classes->count == 0) {
        return;
    }
    fprintf(out, "%s\n", title);
    for (int64_t i = 0; i < classes->count && i < SHOWN; i++) {
        char *label = bif_format("  %s", classes->row[i].name);
        put_row(out, label, s, classes->row[i].count, 1);
        free(label);
    }
    if (classes->count > SHOWN) {
        fprintf(out, "  and %" PRId64 " more (--json has all)\n", classes->count - SHOWN);
    }
}

static void put_spread(FILE *out, const bif_data_stats *s, const char *what, const bif_spread *spread, size_t stride)
{
    const char *const labels[] = {"  used", "  entropy in nats", "  effective number", "  share of the top 1 %"};
    fprintf(out, "%s\n", what);
    for (int row = 0; row < 4; row++) {
        fprintf(out, "%-30s", labels[row]);
        for (int64_t k = 0; k < s->stages; k++) {
            const bif_spread *x = (const bif_spread *)((const char *)spread + (size_t)k * stride);
            if (row == 0) {
                fprintf(out, " %15" PRId64, x->used);
            } else {
                fprintf(out, " %15.4g", row == 1 ? x->entropy : row == 2 ? x->effective : x->top_share);
            }
        }
        fputc('\n', out);
    }
}

char *bif_data_stats_text(const bif_data_stats *s)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    BIF_BUG_IF(out == NULL, "out of memory for a table");
    if (s->stages > 1) {
        fprintf(out, "%-30s", "");
        for (int64_t k = 0; k < s->stages; k++) {
            fprintf(out, " %15.15s", s->stage[k]);
        }
        fputc('\n', out);
    }
    fprintf(out, "%-30s %15" PRId64 "\n", "shards", s->shards);
    for (int i = 0; i < BIF_STATS; i++) {
        if (s->count[0][i] >= 0 && (i != BIF_STAT_VISITS || s->stages > 1)) {
            put_row(out, bif_stat_names[i].label, s, &s->count[0][i], BIF_STATS);
        }
    }
    for (int64_t k = 0; k < s->stages; k++) {
        fprintf(out, "%-30s %11s %11s %11s %11s %11s\n", k == 0 ? "" : s->stage[k], "min", "5 %", "median", "95 %", "max");
        for (int i = 0; i < BIF_MEASURES; i++) {
            const bif_quantiles *q = &s->measure[k][i];
            if (q->count > 0) {
                fprintf(out, "%-30s %11" PRId64 " %11" PRId64 " %11" PRId64 " %11" PRId64 " %11" PRId64 "\n", bif_stat_measure_names[i].label, q->min, q->p5,
                        q->median, q->p95, q->max);
            }
        }
    }
    put_classes(out, "images by format", s, &s->formats);
    put_classes(out, "samples by source", s, &s->sources);
    put_classes(out, "texts by language (a guess)", s, &s->languages);
    put_classes(out, "texts by script", s, &s->scripts);
    put_classes(out, "images by how often they occur", s, &s->same_images);
    put_classes(out, "texts by how often they occur", s, &s->same_texts);
    if (s->concepts > 0) {
        char *title = bif_format("concepts (of %" PRId64 ")", s->concepts);
        put_spread(out, s, title, &s->concept[0].spread, sizeof *s->concept);
        put_row(out, "  with 20 matches or more", s, &s->concept[0].covered20, sizeof *s->concept / sizeof(int64_t));
        put_classes(out, "matches of the commonest concepts", s, &s->top_concepts);
        free(title);
    }
    if (s->clusters != NULL) {
        put_spread(out, s, "clusters of images", s->clusters, sizeof *s->clusters);
    }
    if (s->vendi != NULL) {
        fprintf(out, "%-30s", "Vendi score of the images");
        for (int64_t k = 0; k < s->stages; k++) {
            fprintf(out, " %15.6g", s->vendi[k]);
        }
        fputc('\n', out);
    }
    fclose(out);
    return text;
}

/* ---- JSON ---- */

static json_t *classes_json(const bif_stat_classes *classes, int64_t stage)
{
    json_t *object = json_object();
    for (int64_t i = 0; i < classes->count; i++) {
        json_object_set_new(object, classes->row[i].name, json_integer(classes->row[i].count[stage]));
    }
    return object;
}

static json_t *bins_json(const int64_t *bins)
{
    json_t *list = json_array();
    for (int i = 0; i < BIF_STAT_BINS; i++) {
        if (bins[i] > 0) {
            json_array_append_new(list, json_pack("[f, I]", bif_stat_bin_start(i), (json_int_t)bins[i]));
        }
    }
    return list;
}

static json_t *quantiles_json(const bif_quantiles *q)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "count", (json_int_t)q->count, "min", (json_int_t)q->min, "p5", (json_int_t)q->p5, "median",
                     (json_int_t)q->median, "p95", (json_int_t)q->p95, "max", (json_int_t)q->max, "histogram", bins_json(q->bins));
}

static json_t *spread_json(const bif_spread *x)
{
    return json_pack("{s:I, s:I, s:f, s:f, s:f}", "members", (json_int_t)x->members, "used", (json_int_t)x->used, "entropy", x->entropy, "effective",
                     x->effective, "top_1_percent", x->top_share);
}

static json_t *stage_json(const bif_data_stats *s, int64_t k)
{
    json_t *object = json_object();
    for (int i = 0; i < BIF_STATS; i++) {
        if (s->count[k][i] >= 0) {
            json_object_set_new(object, bif_stat_names[i].key, json_integer(s->count[k][i]));
        }
    }
    for (int i = 0; i < BIF_MEASURES; i++) {
        if (s->measure[k][i].count > 0) {
            json_object_set_new(object, bif_stat_measure_names[i].key, quantiles_json(&s->measure[k][i]));
        }
    }
    json_object_set_new(object, "formats", classes_json(&s->formats, k));
    json_object_set_new(object, "sources", classes_json(&s->sources, k));
    json_object_set_new(object, "languages", classes_json(&s->languages, k));
    json_object_set_new(object, "scripts", classes_json(&s->scripts, k));
    json_object_set_new(object, "same_images", classes_json(&s->same_images, k));
    json_object_set_new(object, "same_texts", classes_json(&s->same_texts, k));
    if (s->concepts > 0) {
        json_t *concepts = spread_json(&s->concept[k].spread);
        json_object_set_new(concepts, "entries", json_integer(s->concepts));
        json_object_set_new(concepts, "with_20_or_more", json_integer(s->concept[k].covered20));
        json_object_set_new(concepts, "histogram", bins_json(s->concept[k].bins));
        json_object_set_new(concepts, "commonest", classes_json(&s->top_concepts, k));
        json_object_set_new(object, "concepts", concepts);
    }
    if (s->clusters != NULL) {
        json_object_set_new(object, "clusters", spread_json(&s->clusters[k]));
    }
    if (s->vendi != NULL) {
        json_object_set_new(object, "vendi", json_real(s->vendi[k]));
    }
    return object;
}

/* Of all samples; "stages" has those of each step of a selection. */
json_t *bif_data_stats_json(const bif_data_stats *s)
{
    json_t *root = stage_json(s, 0), *stages = json_object();
    json_object_set_new(root, "shards", json_integer(s->shards));
    for (int64_t k = 1; k < s->stages; k++) {
        json_object_set_new(stages, s->stage[k], stage_json(s, k));
    }
    if (s->stages > 1) {
        json_object_set_new(root, "stages", stages);
    }
    json_decref(s->stages > 1 ? NULL : stages);
    return root;
}
