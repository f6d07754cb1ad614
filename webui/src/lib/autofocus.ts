/** For `ref`: a dialog that opens later gives the focus to the element with this attribute (HTML, dialog focusing). */
export function autofocusAttribute(element: HTMLElement | null): void {
  element?.setAttribute('autofocus', '');
}
