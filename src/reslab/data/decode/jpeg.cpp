// A part of a JPEG, resized: only the rows and columns that the part needs are turned into pixels, and what lies below
// them is only looked through for its end. Each row is resized as it comes, so that no image is ever held.
//
// Anything out of the ordinary, a warning of libjpeg's included, ends the work with 0: Pillow then decides.

#include <csetjmp>
#include <cstdio>

#include "resize.h"

#include <jpeglib.h>

#ifndef LIBJPEG_TURBO_VERSION_NUMBER
#error "libjpeg-turbo is needed: others cannot decode a part"
#endif

namespace {

struct Work {
  jpeg_decompress_struct jpeg;  // first: libjpeg's callbacks get its address
  jpeg_error_mgr errors;
  jmp_buf out;
};

void give_up(j_common_ptr jpeg) { longjmp(reinterpret_cast<Work *>(jpeg)->out, 1); }

void message(j_common_ptr jpeg, int level) {
  if (level < 0) give_up(jpeg);  // a warning: the data is damaged, and what follows would be guessed
}

// Of libjpeg's own pools: freed with the decoder, also after a longjmp.
void *give(void *owner, size_t bytes) {
  auto *jpeg = static_cast<j_common_ptr>(owner);
  return jpeg->mem->alloc_large(jpeg, JPOOL_IMAGE, bytes);
}

// Colours and samplings that all versions of libjpeg-turbo turn into the same pixels.
bool usual(const jpeg_decompress_struct &jpeg) {
  if (jpeg.data_precision != 8 || jpeg.arith_code) return false;
  if (jpeg.num_components == 1) return jpeg.jpeg_color_space == JCS_GRAYSCALE;
  if (jpeg.num_components != 3) return false;
  if (jpeg.jpeg_color_space != JCS_YCbCr && jpeg.jpeg_color_space != JCS_RGB) return false;
  const jpeg_component_info *part = jpeg.comp_info;
  for (int i = 1; i < 3; i++)
    if (part[i].h_samp_factor != 1 || part[i].v_samp_factor != 1) return false;
  const int h = part[0].h_samp_factor, v = part[0].v_samp_factor;
  return (h == 1 && v == 1) || (h == 2 && v == 1) || (h == 2 && v == 2);
}

// Whether the scans have brought every bit of every coefficient: else libjpeg smooths, by its version.
bool all_bits(const jpeg_decompress_struct &jpeg) {
  if (!jpeg.progressive_mode) return true;
  for (int i = 0; i < jpeg.num_components; i++)
    for (int k = 0; k < DCTSIZE2; k++)
      if (jpeg.coef_bits[i][k] != 0) return false;
  return true;
}

// Whether what was not decoded goes on as it should to the end: to the mark of the end, with no other on the way.
bool whole(jpeg_decompress_struct &jpeg, JSAMPROW line) {
  if (jpeg_has_multiple_scans(&jpeg)) return true;  // it was read to its end before the first pixel
  if (jpeg.restart_interval) {  // the marks on the way are numbered, which is best left to libjpeg
    // A skip to the very end would read nothing at all: the last row has to be asked for.
    if (jpeg.output_scanline + 1 < jpeg.output_height)
      jpeg_skip_scanlines(&jpeg, jpeg.output_height - jpeg.output_scanline - 1);
    while (jpeg.output_scanline < jpeg.output_height)
      if (jpeg_read_scanlines(&jpeg, &line, 1) != 1) return false;
    return jpeg_finish_decompress(&jpeg);
  }
  if (jpeg.unread_marker) return jpeg.unread_marker == JPEG_EOI;
  const JOCTET *at = jpeg.src->next_input_byte, *const end = at + jpeg.src->bytes_in_buffer;
  while (at < end) {
    at = static_cast<const JOCTET *>(memchr(at, 0xFF, end - at));
    if (!at || end - at < 2) return false;
    at++;
    if (*at == JPEG_EOI) return true;
    if (*at != 0x00 && *at != 0xFF) return false;
    if (*at == 0x00) at++;
  }
  return false;
}

bool crop(Work *work, const uint8_t *data, size_t size, int full_width, int full_height, int scale,
          const Wanted &wanted) {
  jpeg_decompress_struct &jpeg = work->jpeg;
  jpeg_create_decompress(&jpeg);
  jpeg_mem_src(&jpeg, const_cast<uint8_t *>(data), size);
  if (jpeg_read_header(&jpeg, TRUE) != JPEG_HEADER_OK || !usual(jpeg)) return false;
  if (jpeg.image_width != static_cast<JDIMENSION>(full_width)) return false;
  if (jpeg.image_height != static_cast<JDIMENSION>(full_height)) return false;
  jpeg.out_color_space = JCS_EXT_RGBX;
  jpeg.dct_method = JDCT_ISLOW;
  jpeg.scale_num = 1;
  jpeg.scale_denom = scale;
  jpeg_calc_output_dimensions(&jpeg);
  const int width = jpeg.output_width, height = jpeg.output_height;
  if (!wanted.within(width, height)) return false;
  const Memory memory{give, &jpeg};
  Resize<LANES> resize(memory, wanted, width, height);
  if (!jpeg_start_decompress(&jpeg) || !all_bits(jpeg)) return false;

  // A block more on each side than is needed: upsampling looks at the neighbours.
  const int block = DCTSIZE / scale, wide = block * jpeg.max_h_samp_factor, tall = block * jpeg.max_v_samp_factor;
  const Taps &x = resize.x, &y = resize.y;
  JDIMENSION left = x.begin > wide ? (x.begin / wide - 1) * wide : 0;
  JDIMENSION columns = (x.end + wide < width ? x.end + wide : width) - left;
  if (columns < jpeg.output_width) jpeg_crop_scanline(&jpeg, &left, &columns);
  const JDIMENSION top = y.begin > tall ? (y.begin / tall - 1) * tall : 0;
  if (top && jpeg_skip_scanlines(&jpeg, top) != top) return false;

  resize.begin(memory, left, columns);
  JSAMPROW line = resize.row;
  while (static_cast<int>(jpeg.output_scanline) < y.end) {
    const int at = jpeg.output_scanline;
    if (jpeg_read_scanlines(&jpeg, &line, 1) != 1) return false;
    resize.next(at);
  }
  return resize.done() && whole(jpeg, line);
}

}  // namespace

// Writes the crop, uint8 (rows, columns, 3), and returns 1; 0 where it does not vouch for what it has written.
//   data, size     the file
//   width, height  that Pillow has read from it
//   scale          1, 2, 4 or 8: by how much less to decode
//   box            left, top, right, bottom in pixels of what is decoded
//   all            rows and columns that the box is resized to, and the first row and column that are wanted
extern "C" int jpeg_part(const uint8_t *data, size_t size, int width, int height, int scale, const float *box,
                         const int *all, int rows, int columns, int flip, uint8_t *out) {
  Work work;
  memset(&work, 0, sizeof work);
  work.jpeg.err = jpeg_std_error(&work.errors);
  work.errors.error_exit = give_up;
  work.errors.emit_message = message;
  const Wanted wanted{box, all, rows, columns, flip, out};
  const int done = setjmp(work.out) == 0 && crop(&work, data, size, width, height, scale, wanted);
  jpeg_destroy_decompress(&work.jpeg);
  return done;
}
