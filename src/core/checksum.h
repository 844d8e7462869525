/* The internet checksum of RFC 1071: the one of IP, ICMP, UDP and TCP. */
#ifndef NP_CHECKSUM_H
#define NP_CHECKSUM_H

#include "core/base.h"

/* Adds bytes to a sum, which begins as 0; pieces before the last must be of even length. */
uint32_t np_checksum_add(uint32_t sum, const void *p, size_t n);

/* The checksum of a sum, as a number whose two bytes are sent the higher one first. */
uint16_t np_checksum_end(uint32_t sum);

#endif
