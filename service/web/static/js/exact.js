// Whole numbers from here on are rounded by scripts: better to refuse them than to change them unseen.

export const TOO_LARGE = "A whole number is too large for this page; send it with the HTTP interface.";

export function isExact(value) {
  if (typeof value === "number") return !Number.isInteger(value) || Number.isSafeInteger(value);
  return value === null || typeof value !== "object" || Object.values(value).every(isExact);
}
