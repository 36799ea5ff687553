"""What `longreach top` shows: pages of metrics read, two of them compared, the numbers that come out."""
