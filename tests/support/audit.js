// What an audit of accessibility looks at first: contrast of text (WCAG 2.2, 1.4.3), names of controls (4.1.2) and fields (3.3.2),
// texts for pictures (1.1.1), the language (3.1.1), landmarks, one heading of the first level, and no order of focus of its own (2.4.3).
const problems = [];
const shown = (node) => node.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && node.getClientRects().length > 0;
const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
const rgba = (text) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = text;
  canvas.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
  return [r, g, b, a / 255];
};
const over = (top, under) => [0, 1, 2].map((n) => top[n] * top[3] + under[n] * (1 - top[3])).concat(1);
const ground = (node) => {
  const layers = [];
  for (let at = node; at; at = at.parentElement) {
    const colour = rgba(getComputedStyle(at).backgroundColor);
    layers.push(colour);
    if (colour[3] === 1) break;
  }
  return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]);
};
const light = (colour) => {
  const [r, g, b] = colour.slice(0, 3).map((v) => { const c = v / 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
const say = (node) => `${node.tagName.toLowerCase()}.${node.className.baseVal ?? node.className} "${node.textContent.trim().slice(0, 40)}"`;

let least = 21;
let texts = 0;
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !shown(node) || node.closest('script, option, [aria-hidden=true], :disabled, [aria-disabled=true]')) continue;
  if (node.closest('svg') && getComputedStyle(node).fill === 'none') continue;
  const style = getComputedStyle(node);
  const under = ground(node.closest('svg') ? node.closest('svg').parentElement : node);
  const ratio = contrast(over(rgba(node.closest('svg') ? style.fill : style.color), under), under);
  const size = parseFloat(style.fontSize);
  const wanted = size >= 24 || (size >= 18.66 && parseInt(style.fontWeight, 10) >= 700) ? 3 : 4.5;
  texts += 1;
  least = Math.min(least, ratio);
  if (ratio < wanted) problems.push(`contrast ${ratio.toFixed(2)} of ${say(node)}`);
}
const named = (node) => (node.getAttribute('aria-label') ?? '').trim() || node.textContent.trim() || node.title
  || (node.getAttribute('aria-labelledby') ?? '').split(' ').map((id) => document.getElementById(id)?.textContent ?? '').join('').trim()
  || [...(node.labels ?? [])].map((label) => label.textContent).join('').trim();
const controls = [...document.querySelectorAll('button, a[href], input, select, textarea, [role=button], [tabindex]')].filter(shown);
for (const node of controls) {
  if (!named(node)) problems.push(`no name: ${node.outerHTML.slice(0, 120)}`);
  if (node.tabIndex > 0) problems.push(`an order of its own: ${say(node)}`);
}
for (const image of [...document.images].filter(shown)) if (image.getAttribute('alt') === null) problems.push(`no text for ${image.src}`);
if (!document.documentElement.lang) problems.push('no language');
if (document.querySelectorAll('main').length !== 1) problems.push('not one main part');
if (![...document.querySelectorAll('h1')].length) problems.push('no heading');
const ids = [...document.querySelectorAll('[id]')].map((node) => node.id);
for (const id of new Set(ids.filter((id, n) => ids.indexOf(id) !== n))) problems.push(`twice the id ${id}`);
return { problems, least, texts, controls: controls.length };
