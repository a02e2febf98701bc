/* Captions: BLEU-1 to 4, ROUGE-L and CIDEr-D as coco-caption computes them, on its tokens. METEOR (a 61 MB table of paraphrases) and
 * SPICE (a parser of scene graphs) are not computed.
 *
 * Pictures stand in the order of "images", as in the scorer: it tokenizes all captions in one file, where the end of one may depend on
 * the next (eval/ptb.h). Document frequencies are those of all pictures scored; a draw of the bootstrap does not count them anew. */
#include <stdlib.h>
#include <string.h>

#include "eval/caption_metrics.h"
#include "eval/coco.h"
#include "eval/ptb.h"
#include "eval/score.h"

static bif_status read_captions(bif_score_set *set, const char *const *paths, size_t count)
{
    bif_status st = BIF_OK;
    bif_coco coco = {.set = set};
    int64_t bare = 0, unlisted = 0;
    size_t next = 0;
    for (size_t i = 0; i < count; i++) {
        BIF_TRY(bif_coco_read(&coco, paths[i]));
    }
    for (bif_picture *p; (p = bif_coco_next(&coco, &next)) != NULL;) {
        if (p->caption_count == 0) {
            bare++;
            continue;
        }
        bif_score_item *item = bif_score_add(set, p->id);
        item->cluster = p->id;
        item->answers = p->captions;
        item->answer_count = p->caption_count;
        item->more = bif_score_take(set, sizeof(bif_caption));
    }
    for (size_t i = 0; i < coco.ids.count; i++) {
        unlisted += !coco.pictures[i].placed;
    }
    if (bare > 0) {
        bif_score_note(set, "%lld of the images have no caption: left out", (long long)bare);
    }
    if (unlisted > 0) {
        bif_score_note(set, "captions of %lld pictures that are not among the images: left out", (long long)unlisted);
    }
done:
    bif_coco_free(&coco);
    return st;
}

/* A file of captions: each is tokenized with the next that is not blank in view. Spans become those of their tokens. */
static void tokenize(bif_score_set *set, bif_span *captions, int64_t count)
{
    bif_ptb *ptb = bif_ptb_new();
    bif_text_buffer buffer = {0};
    bif_span next = {0};
    for (int64_t i = count - 1; i >= 0; i--) {
        const bif_span caption = captions[i];
        bif_text_clear(&buffer);
        bif_ptb_caption(ptb, caption, next, &buffer);
        captions[i] = bif_score_keep(set, bif_text_span(&buffer));
        next = bif_text_strip(caption).size > 0 || next.text == NULL ? caption : next;
    }
    bif_text_free(&buffer);
    bif_ptb_free(ptb);
}

static bif_status score_captions(bif_score_set *set, bif_norm norm)
{
    (void)norm;
    int64_t total = 0, at = 0;
    for (int64_t i = 0; i < set->count; i++) {
        total += set->items[i].answer_count;
    }
    bif_span *references = bif_calloc((size_t)total, sizeof *references);
    bif_span *predictions = bif_calloc((size_t)set->count, sizeof *predictions);
    bif_caption *captions = bif_calloc((size_t)set->count, sizeof *captions);
    for (int64_t i = 0; i < set->count; i++) {
        const bif_score_item *item = &set->items[i];
        captions[i].references = references + at;
        captions[i].reference_count = item->answer_count;
        memcpy(references + at, item->answers, (size_t)item->answer_count * sizeof *references);
        predictions[i] = item->prediction;
        at += item->answer_count;
    }
    if (!set->tokenized) {
        tokenize(set, references, total);
        tokenize(set, predictions, set->count);
    }
    for (int64_t i = 0; i < set->count; i++) {
        captions[i].prediction = predictions[i];
    }
    bif_caption_score(captions, set->count);
    for (int64_t i = 0; i < set->count; i++) {
        bif_score_item *item = &set->items[i];
        captions[i].references = NULL; /* the counts are what is kept */
        memcpy(item->more, &captions[i], sizeof captions[i]);
        item->parsed = predictions[i];
        item->score = captions[i].cider;
        item->value[0] = captions[i].rouge;
    }
    bif_score_note(set, "METEOR and SPICE are not computed");
    if (set->count == 1) {
        bif_score_note(set, "CIDEr-D of a single picture is 0: its document frequencies say nothing");
    }
    free(captions);
    free(predictions);
    free(references);
    return BIF_OK;
}

static void summarise(const bif_score_set *set, const int32_t *weight, bif_metric_list *out)
{
    double cider = 0.0, rouge = 0.0, bleu[4];
    int64_t count = 0;
    bif_bleu sums = {0};
    for (int64_t i = 0; i < set->count; i++) {
        cider += weight[i] * set->items[i].score;
        rouge += weight[i] * set->items[i].value[0];
        count += weight[i];
        bif_bleu_add(&sums, set->items[i].more, weight[i]);
    }
    bif_bleu_score(&sums, bleu);
    bif_metric_add(out, 100.0 * cider / (double)count, count, "CIDEr");
    for (int n = 0; n < 4; n++) {
        bif_metric_add(out, 100.0 * bleu[n], count, "BLEU-%d", n + 1);
    }
    bif_metric_add(out, 100.0 * rouge / (double)count, count, "ROUGE-L");
    bif_metric_add(out, (double)sums.length, count, "tokens");
    bif_metric_add(out, (double)sums.closest, count, "tokens/references");
}

const bif_score_task bif_task_caption = {
    .name = "caption",
    .title = "captions (COCO, Flickr30k, NoCaps, TextCaps): CIDEr-D, BLEU-1 to 4, ROUGE-L",
    .references = "captions_val2014.json (images, annotations of image_id and caption), or JSONL of image_id, captions",
    .rule = "as coco-caption, x 100, on PTB tokens",
    .by_image = true,
    .tokens = true,
    .read = read_captions,
    .score = score_captions,
    .summarise = summarise,
};
