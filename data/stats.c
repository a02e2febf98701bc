#include "data/stats.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "data/shard.h"

typedef struct {
    uint64_t high, low;
} image_id;

/* Per image of all shards; 40 bytes an image. */
typedef struct {
    image_id *ids;
    uint64_t *width, *height, *size;
    int64_t count, capacity;
} images;

static int compare_u64(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int compare_id(const void *a, const void *b)
{
    const image_id *x = a, *y = b;
    return x->high != y->high ? (x->high > y->high) - (x->high < y->high) : (x->low > y->low) - (x->low < y->low);
}

static int compare_source(const void *a, const void *b)
{
    return strcmp(((const bif_source_count *)a)->name, ((const bif_source_count *)b)->name);
}

static bif_spread spread(uint64_t *values, int64_t count)
{
    if (count == 0) {
        return (bif_spread){0};
    }
    qsort(values, (size_t)count, sizeof *values, compare_u64);
    return (bif_spread){(int64_t)values[0], (int64_t)values[(count - 1) / 2], (int64_t)values[count - 1]};
}

static void count_source(bif_data_stats *stats, const char *name)
{
    for (int64_t i = stats->source_count; i-- > 0;) {
        if (strcmp(stats->sources[i].name, name) == 0) {
            stats->sources[i].samples++;
            return;
        }
    }
    stats->sources = bif_realloc(stats->sources, (size_t)stats->source_count + 1, sizeof *stats->sources);
    stats->sources[stats->source_count++] = (bif_source_count){bif_strdup(name), 1};
}

static void count_text(bif_data_stats *stats, const bif_shard_sample *sample)
{
    json_t *value = NULL;
    stats->text_bytes += (int64_t)sample->text_size;
    bool good = bif_json_parse("text", sample->text, sample->text_size, &value) == BIF_OK;
    const json_t *turns = json_object_get(value, "conversations");
    if (good && json_is_array(turns)) {
        stats->conversations++;
        stats->turns += (int64_t)json_array_size(turns);
        stats->image_only += json_array_size(turns) == 0 && sample->image_count > 0;
    } else if (good && json_is_string(json_object_get(value, "caption"))) {
        stats->captions++;
    } else {
        stats->bad_texts++;
    }
    json_decref(value);
}

static void add_image(images *all, const bif_shard_image *image)
{
    if (all->count == all->capacity) {
        all->capacity = all->capacity ? all->capacity * 2 : 1024;
        all->ids = bif_realloc(all->ids, (size_t)all->capacity, sizeof *all->ids);
        all->width = bif_realloc(all->width, (size_t)all->capacity, sizeof *all->width);
        all->height = bif_realloc(all->height, (size_t)all->capacity, sizeof *all->height);
        all->size = bif_realloc(all->size, (size_t)all->capacity, sizeof *all->size);
    }
    all->ids[all->count] = (image_id){image->id[0], image->id[1]};
    all->width[all->count] = image->width;
    all->height[all->count] = image->height;
    all->size[all->count++] = image->size;
}

static bif_status read_shard(const char *path, bif_data_stats *stats, images *all)
{
    bif_status st = BIF_OK;
    bif_shard *shard = NULL;
    BIF_TRY(bif_shard_open(path, &shard));
    for (int64_t i = 0; i < bif_shard_images(shard); i++) {
        bif_shard_image image = {0};
        BIF_TRY(bif_shard_get_image(shard, i, &image));
        add_image(all, &image);
        stats->formats[image.format]++;
        stats->image_bytes += (int64_t)image.size;
    }
    for (int64_t i = 0; i < bif_shard_samples(shard); i++) {
        bif_shard_sample sample = {0};
        BIF_TRY(bif_shard_get_sample(shard, i, &sample));
        stats->text_only += sample.image_count == 0;
        stats->one_image += sample.image_count == 1;
        stats->many_images += sample.image_count > 1;
        count_text(stats, &sample);
        count_source(stats, sample.source);
    }
    stats->shards++;
    stats->samples += bif_shard_samples(shard);
done:
    bif_shard_close(shard);
    return st;
}

bif_status bif_data_stats_read(const char *const *paths, size_t count, bif_data_stats *out)
{
    bif_status st = BIF_OK;
    images all = {0};
    *out = (bif_data_stats){0};
    for (size_t i = 0; i < count; i++) {
        BIF_TRY(read_shard(paths[i], out, &all));
    }
    out->images = all.count;
    out->width = spread(all.width, all.count);
    out->height = spread(all.height, all.count);
    out->size = spread(all.size, all.count);
    if (all.count > 0) {
        qsort(all.ids, (size_t)all.count, sizeof *all.ids, compare_id);
    }
    for (int64_t i = 0; i < all.count; i++) {
        out->distinct_images += i == 0 || compare_id(&all.ids[i - 1], &all.ids[i]) != 0;
    }
    if (out->source_count > 0) {
        qsort(out->sources, (size_t)out->source_count, sizeof *out->sources, compare_source);
    }
done:
    free(all.ids);
    free(all.width);
    free(all.height);
    free(all.size);
    if (st != BIF_OK) {
        bif_data_stats_free(out);
    }
    return st;
}

void bif_data_stats_free(bif_data_stats *stats)
{
    for (int64_t i = 0; i < stats->source_count; i++) {
        free(stats->sources[i].name);
    }
    free(stats->sources);
    *stats = (bif_data_stats){0};
}

static const char *const format_names[4] = {"unknown", "jpeg", "png", "webp"};

char *bif_data_stats_text(const bif_data_stats *s)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    BIF_BUG_IF(out == NULL, "out of memory for a table");
    const struct {
        const char *name;
        int64_t value;
    } rows[] = {
        {"shards", s->shards},
        {"samples", s->samples},
        {"  text only", s->text_only},
        {"  one image", s->one_image},
        {"  many images", s->many_images},
        {"  image only (not trained on)", s->image_only},
        {"  with a caption", s->captions},
        {"  with a conversation", s->conversations},
        {"  with a bad text", s->bad_texts},
        {"turns", s->turns},
        {"text bytes", s->text_bytes},
        {"images", s->images},
        {"  distinct", s->distinct_images},
        {"image bytes", s->image_bytes},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fprintf(out, "%-30s %15lld\n", rows[i].name, (long long)rows[i].value);
    }
    for (int i = 0; i < 4; i++) {
        if (s->formats[i] > 0) {
            fprintf(out, "  %-28s %15lld\n", format_names[i], (long long)s->formats[i]);
        }
    }
    if (s->images > 0) {
        fprintf(out, "%-30s %15s %11s %11s\n", "", "min", "median", "max");
        const struct {
            const char *name;
            bif_spread value;
        } spreads[] = {{"width", s->width}, {"height", s->height}, {"bytes of an image", s->size}};
        for (int i = 0; i < 3; i++) {
            fprintf(out, "%-30s %15lld %11lld %11lld\n", spreads[i].name, (long long)spreads[i].value.min,
                    (long long)spreads[i].value.median, (long long)spreads[i].value.max);
        }
    }
    for (int64_t i = 0; i < s->source_count; i++) {
        fprintf(out, "%s%-28.64s %15lld\n", i == 0 ? "samples by source\n  " : "  ", s->sources[i].name, (long long)s->sources[i].samples);
    }
    fclose(out);
    return text;
}

static json_t *spread_json(bif_spread value)
{
    return json_pack("{s:I,s:I,s:I}", "min", (json_int_t)value.min, "median", (json_int_t)value.median, "max", (json_int_t)value.max);
}

static void put(json_t *object, const char *key, int64_t value)
{
    json_object_set_new(object, key, json_integer(value));
}

json_t *bif_data_stats_json(const bif_data_stats *s)
{
    json_t *root = json_object(), *formats = json_object(), *sources = json_object();
    put(root, "shards", s->shards);
    put(root, "samples", s->samples);
    put(root, "text_only", s->text_only);
    put(root, "one_image", s->one_image);
    put(root, "many_images", s->many_images);
    put(root, "image_only", s->image_only);
    put(root, "captions", s->captions);
    put(root, "conversations", s->conversations);
    put(root, "bad_texts", s->bad_texts);
    put(root, "turns", s->turns);
    put(root, "text_bytes", s->text_bytes);
    put(root, "images", s->images);
    put(root, "distinct_images", s->distinct_images);
    put(root, "image_bytes", s->image_bytes);
    for (int i = 0; i < 4; i++) {
        put(formats, format_names[i], s->formats[i]);
    }
    json_object_set_new(root, "formats", formats);
    json_object_set_new(root, "width", spread_json(s->width));
    json_object_set_new(root, "height", spread_json(s->height));
    json_object_set_new(root, "bytes_of_an_image", spread_json(s->size));
    for (int64_t i = 0; i < s->source_count; i++) {
        put(sources, s->sources[i].name, s->sources[i].samples);
    }
    json_object_set_new(root, "sources", sources);
    return root;
}
