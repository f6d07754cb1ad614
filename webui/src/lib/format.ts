/** Numbers, sizes and times for people. The `Intl` objects are made once: making them is slow. */

import { t } from '../i18n';

const number = new Intl.NumberFormat(t.locale);
const oneDigit = new Intl.NumberFormat(t.locale, { maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(t.locale, { hour: '2-digit', minute: '2-digit', hour12: false });
const dateTime = new Intl.DateTimeFormat(t.locale, { dateStyle: 'medium', timeStyle: 'medium', hour12: false });
const day = new Intl.DateTimeFormat(t.locale, { dateStyle: 'medium' });

const SIZES = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];

/** Bytes with decimal prefixes (SI), e.g. `1.5 MB`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  // 999.95 would be printed as "1,000".
  while (value >= 999.95 && unit < SIZES.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? number.format(value) : oneDigit.format(value)} ${SIZES[unit]}`;
}

export function formatCount(value: number): string {
  return number.format(value);
}

/** `40 s`, `3 min`, `5 h`, `2 d`: the largest unit alone, rounded down. */
export function formatAge(seconds: number): string {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return t.time.seconds(s);
  if (s < 3600) return t.time.minutes(Math.floor(s / 60));
  if (s < 86_400) return t.time.hours(Math.floor(s / 3600));
  return t.time.days(Math.floor(s / 86_400));
}

/** `3 min ago`, and `just now` for what a clock that is a little off would put into the future. */
export function formatAgo(seconds: number): string {
  return seconds < 5 ? t.time.justNow : t.time.ago(formatAge(seconds));
}

/** `1:05` minutes and seconds, for a countdown. */
export function formatCountdown(seconds: number): string {
  const s = Math.max(0, Math.ceil(seconds));
  return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, '0')}`;
}

/** `14:02`. */
export function formatClock(millis: number): string {
  return clock.format(millis);
}

export function formatDateTime(rfc3339: string): string {
  return dateTime.format(new Date(rfc3339));
}

export function formatDay(rfc3339: string): string {
  return day.format(new Date(rfc3339));
}
