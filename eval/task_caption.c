/* Captions: BLEU-1 to 4, ROUGE-L and CIDEr-D as coco-caption computes them, on its tokens. METEOR (a 61 MB table of paraphrases) and
 * SPICE (a parser of scene graphs) are not computed.
 *
 * Pictures stand in the order of "images", as in the scorer: it tokenizes all captions in one file, where the end of one may depend on
 * the next (eval/ptb.h). Document frequencies are those of all pictures scored; a draw of the bootstrap does not count them anew.
 *
 * NoCaps' pictures have domains: each is scored as if it were a file of its own, so its CIDEr-D has document frequencies of its own, which is what
 * those do who hand coco-caption a file a domain (what the server of NoCaps does is not public); the tokens are those of the whole file. */
#include <math.h>
#include <stdio.h>
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
        item->group[0] = p->domain;
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

/* The CIDEr-D that item i has among its domain's alone, as value[1]. */
static void score_domains(bif_score_set *set, const bif_caption *all)
{
    bif_caption *some = bif_calloc((size_t)set->count, sizeof *some);
    int64_t *which = bif_calloc((size_t)set->count, sizeof *which);
    for (int32_t g = 0; g < set->groups[0]; g++) {
        int64_t count = 0;
        for (int64_t i = 0; i < set->count; i++) {
            if (set->items[i].group_index[0] == g) {
                some[count] = all[i];
                which[count++] = i;
            }
        }
        bif_caption_score(some, count);
        for (int64_t k = 0; k < count; k++) {
            set->items[which[k]].value[1] = some[k].cider;
        }
    }
    free(which);
    free(some);
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
    score_domains(set, captions);
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

/* Of all pictures (group -1), or of a domain. */
static void add_metrics(const bif_score_set *set, const int32_t *weight, int32_t group, bif_metric_list *out)
{
    double cider = 0.0, rouge = 0.0, bleu[4];
    int64_t count = 0;
    bif_bleu sums = {0};
    char of[80] = "";
    if (group >= 0) {
        snprintf(of, sizeof of, "/%.*s", (int)(set->group[0][group].size < 60 ? set->group[0][group].size : 60), set->group[0][group].text);
    }
    for (int64_t i = 0; i < set->count; i++) {
        const bif_score_item *item = &set->items[i];
        if (group < 0 || item->group_index[0] == group) {
            cider += weight[i] * (group < 0 ? item->score : item->value[1]);
            rouge += weight[i] * item->value[0];
            count += weight[i];
            bif_bleu_add(&sums, item->more, weight[i]);
        }
    }
    bif_bleu_score(&sums, bleu);
    bif_metric_add(out, 100.0 * cider / (double)count, count, "CIDEr%s", of);
    for (int n = 0; n < 4; n++) {
        bif_metric_add(out, count > 0 ? 100.0 * bleu[n] : NAN, count, "BLEU-%d%s", n + 1, of);
    }
    bif_metric_add(out, 100.0 * rouge / (double)count, count, "ROUGE-L%s", of);
    bif_metric_add(out, (double)sums.length, count, "tokens%s", of);
    bif_metric_add(out, (double)sums.closest, count, "tokens/references%s", of);
}

static void summarise(const bif_score_set *set, const int32_t *weight, bif_metric_list *out)
{
    for (int32_t g = -1; g < set->groups[0]; g++) {
        add_metrics(set, weight, g, out);
    }
}

const bif_score_task bif_task_caption = {
    .name = "caption",
    .title = "captions (COCO, Flickr30k, NoCaps, TextCaps): CIDEr-D, BLEU-1 to 4, ROUGE-L",
    .references = "captions_val2014.json (images, annotations of image_id and caption), or JSONL of image_id, captions",
    .rule = "as coco-caption, x 100, on PTB tokens; NoCaps' domains each as a file of its own",
    .dimension = {"domain"},
    .by_image = true,
    .tokens = true,
    .read = read_captions,
    .score = score_captions,
    .summarise = summarise,
};
