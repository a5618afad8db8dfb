// The player: one audio element, a place in time that all cursors show, and one event at a time.

class Player {
  /**
   * @param audio the element
   * @param sound the page's sound: type, urls, note
   * @param embedded base64 of a file, or ""
   * @param duration seconds of the recording
   * @param changed called whenever the place or state changes
   */
  constructor(audio, sound, embedded, duration, changed) {
    this.audio = audio;
    this.duration = duration;
    this.changed = changed;
    this.place = 0;
    this.stopAt = null;
    this.state = "none"; // "none", "loading", "ready", "failed"
    this.left = embedded
      ? [URL.createObjectURL(new Blob([decoded(embedded)], { type: sound.type }))]
      : [...sound.urls];
    audio.addEventListener("error", () => this.next());
    audio.addEventListener("loadedmetadata", () => this.loaded());
    audio.addEventListener("ended", () => this.changed());
    audio.addEventListener("pause", () => this.changed());
    audio.addEventListener("timeupdate", () => this.follow());
    if (this.left.length) this.next();
  }

  /** Try the next address. */
  next() {
    const address = this.left.shift();
    if (address === undefined) {
      this.state = "failed";
      this.audio.removeAttribute("src");
    } else {
      this.state = "loading";
      this.audio.src = address;
    }
    this.changed();
  }

  loaded() {
    this.state = "ready";
    if (this.place > 0) this.audio.currentTime = this.place;
    this.changed();
  }

  get playing() {
    return this.state === "ready" && !this.audio.paused && !this.audio.ended;
  }

  seek(seconds) {
    this.stopAt = null;
    this.move(seconds);
  }

  move(seconds) {
    this.place = Math.min(Math.max(seconds, 0), this.duration);
    if (this.state === "ready") this.audio.currentTime = this.place;
    this.changed();
  }

  /** Play from a place, to another one if it is given. */
  play(from = null, to = null) {
    this.stopAt = to;
    if (from !== null) this.move(from);
    else if (this.place >= this.duration - 0.01) this.move(0);
    if (this.state !== "ready") return;
    this.audio.play().catch(() => this.changed());
    const step = () => {
      this.follow();
      if (this.playing) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  pause() {
    this.stopAt = null;
    this.audio.pause();
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  /** Take over where the sound is, and stop at the end of an event. */
  follow() {
    if (this.state !== "ready" || this.audio.seeking) return;
    this.place = Math.min(this.audio.currentTime, this.duration);
    if (this.stopAt !== null && this.place >= this.stopAt) {
      this.audio.pause();
      this.stopAt = null;
    }
    this.changed();
  }
}
