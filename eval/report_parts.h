/* Inside of report_html.c: the questions of a row. root: the image root, or -1. */
#pragma once
#include "eval/report.h"

bif_status bif_report_put_cards(const bif_score_report *report, size_t row, const bif_report_page *page, int root, bif_text_buffer *out);
