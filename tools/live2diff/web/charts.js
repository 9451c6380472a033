// SPDX-License-Identifier: Apache-2.0
// Small charts of the last minute on canvases: lines, or bars that stand on each other.

const SAMPLES = 120;            // two a second
const LEFT = 34;                // room for the scale

function niceTop(value) {
  const unit = 10 ** Math.floor(Math.log10(Math.max(value, 1e-9)));
  for (const step of [1, 1.5, 2, 3, 4, 5, 8, 10])
    if (value <= step * unit)
      return step * unit;
  return 10 * unit;
}

function shortNumber(value) {
  return value >= 1000 ? `${+(value / 1000).toFixed(1)}k` : `${+value.toPrecision(3)}`;
}

export class Chart {
  // series: [{ color: '--accent', fill: true, dash: [] }]; the first lies in front.
  constructor(canvas, { series, stacked = false, least = 1, format = shortNumber }) {
    this.canvas = canvas;
    this.series = series;
    this.stacked = stacked;
    this.least = least;         // the scale's top, at least
    this.format = format;
    this.samples = [];
    this.styles = getComputedStyle(document.documentElement);
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  add(values) {
    this.samples.push(values);
    if (this.samples.length > SAMPLES)
      this.samples.shift();
    this.draw();
  }

  color(name) {
    return this.styles.getPropertyValue(name).trim();
  }

  top() {
    let top = this.least;
    for (const values of this.samples)
      top = Math.max(top, this.stacked ? values.reduce((a, b) => a + b, 0) : Math.max(...values));
    return niceTop(top * 1.04);
  }

  draw() {
    const scale = window.devicePixelRatio || 1;
    const w = this.canvas.clientWidth, h = this.canvas.clientHeight;
    if (!w || !h)
      return;
    this.canvas.width = Math.round(w * scale);
    this.canvas.height = Math.round(h * scale);
    const c = this.canvas.getContext('2d');
    c.scale(scale, scale);
    const top = this.top();
    const y = (value) => h - 3 - (h - 10) * value / top;
    const x = (i) => LEFT + (w - LEFT - 2) * (SAMPLES - this.samples.length + i) / (SAMPLES - 1);
    this.drawGrid(c, w, top, y);
    if (this.stacked)
      this.drawBars(c, x, y, (w - LEFT) / SAMPLES);
    else
      for (let i = this.series.length - 1; i >= 0; i--)
        this.drawLine(c, this.series[i], i, x, y, h);
  }

  drawGrid(c, w, top, y) {
    c.font = '11px system-ui, sans-serif';
    c.textAlign = 'right';
    c.textBaseline = 'middle';
    c.lineWidth = 1;
    for (const part of [0, 0.5, 1]) {
      const at = Math.round(y(top * part)) + 0.5;
      c.strokeStyle = this.color('--edge');
      c.beginPath();
      c.moveTo(LEFT, at);
      c.lineTo(w, at);
      c.stroke();
      c.fillStyle = this.color('--faint');
      c.fillText(this.format(top * part), LEFT - 7, Math.max(at, 6));
    }
  }

  drawLine(c, series, index, x, y, h) {
    if (this.samples.length < 2)
      return;
    c.beginPath();
    this.samples.forEach((values, i) => (i ? c.lineTo(x(i), y(values[index])) : c.moveTo(x(i), y(values[index]))));
    c.strokeStyle = this.color(series.color);
    c.lineWidth = 1.8;
    c.lineJoin = 'round';
    c.setLineDash(series.dash || []);
    c.stroke();
    c.setLineDash([]);
    if (!series.fill)
      return;
    c.lineTo(x(this.samples.length - 1), h - 3);
    c.lineTo(x(0), h - 3);
    c.globalAlpha = 0.13;
    c.fillStyle = this.color(series.color);
    c.fill();
    c.globalAlpha = 1;
  }

  drawBars(c, x, y, width) {
    this.samples.forEach((values, i) => {
      let sum = 0;
      values.forEach((value, index) => {
        c.fillStyle = this.color(this.series[index].color);
        const from = y(sum), to = y(sum + value);
        sum += value;
        if (value > 0)
          c.fillRect(x(i) - width, Math.min(to, from - 1), Math.max(width - 1, 1), Math.max(from - to, 1));
      });
    });
  }
}
