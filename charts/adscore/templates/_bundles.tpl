{{/* Bundles and engines: where they come from, who copies them, who mounts them. */}}

{{- define "adscore.bundleVolumes" -}}
{{- $bundles := .Values.bundles -}}
{{- if eq $bundles.source "pvc" }}
- name: bundles
  persistentVolumeClaim:
    claimName: {{ $bundles.pvc.claimName }}
    readOnly: true
{{- else if ne $bundles.source "image" }}
- name: bundles
  emptyDir:
    sizeLimit: {{ $bundles.sizeLimit }}
{{- end }}
{{- if and (eq $bundles.source "objectStore") $bundles.objectStore.existingSecret }}
- name: object-store
  secret:
    secretName: {{ $bundles.objectStore.existingSecret }}
    defaultMode: 288 # 0440
{{- end }}
{{- if .Values.engineCache.enabled }}
- name: engine-cache
  {{- if .Values.engineCache.persistence.enabled }}
  persistentVolumeClaim:
    claimName: {{ .Values.engineCache.persistence.existingClaim | default (printf "%s-engines" (include "adscore.fullname" .)) }}
  {{- else }}
  emptyDir:
    sizeLimit: {{ .Values.engineCache.size }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "adscore.bundleMounts" -}}
{{- if .Values.engineCache.enabled }}
- name: engine-cache
  mountPath: /var/cache/adscore
{{- else }}
{{- include "adscore.bundlesToRead" . }}
{{- end }}
{{- end }}

{{- define "adscore.bundlesToRead" -}}
{{- if ne .Values.bundles.source "image" }}
- name: bundles
  mountPath: /bundles
  readOnly: true
  {{- if and (eq .Values.bundles.source "pvc") .Values.bundles.pvc.subPath }}
  subPath: {{ .Values.bundles.pvc.subPath }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "adscore.initContainers" -}}
{{- $bundles := .Values.bundles -}}
{{- if eq $bundles.source "oci" }}
- name: bundles
  image: {{ $bundles.oci.image }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command: [cp, -rT, {{ $bundles.oci.path }}, /bundles]
  {{- include "adscore.copying" . | nindent 2 }}
    - {name: bundles, mountPath: /bundles}
{{- else if eq $bundles.source "objectStore" }}
- name: bundles
  image: {{ $bundles.objectStore.image }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args: [copy, --config, /etc/rclone/rclone.conf, {{ $bundles.objectStore.remote | quote }}, /bundles]
  {{- include "adscore.copying" . | nindent 2 }}
    - {name: bundles, mountPath: /bundles}
    - {name: tmp, mountPath: /tmp}
    {{- if $bundles.objectStore.existingSecret }}
    - {name: object-store, mountPath: /etc/rclone, readOnly: true}
    {{- end }}
{{- end }}
{{- if .Values.engineCache.enabled }}
# Engines lie in their bundle's folder, so the bundles are copied to where engines may be written. What is there stays.
- name: engine-cache
  image: {{ include "adscore.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command: [cp, -rnT, {{ ternary "/opt/adscore/models" "/bundles" (eq $bundles.source "image") }}, /var/cache/adscore/models]
  {{- include "adscore.copying" . | nindent 2 }}
    - {name: engine-cache, mountPath: /var/cache/adscore}
    {{- include "adscore.bundlesToRead" . | nindent 4 }}
{{- end }}
{{- end }}

{{/* Builds the engines that this node's GPU lacks; after it the worker only loads. */}}
{{- define "adscore.engineBuild" -}}
{{- if and .Values.engineCache.enabled .Values.engineCache.build }}
- name: engine-build
  image: {{ include "adscore.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args: [--config, /etc/adscore/adscore.toml, models, build]
  {{- include "adscore.containerSecurity" . | nindent 2 }}
  resources:
    {{- include "adscore.resources" . | nindent 4 }}
  terminationMessagePolicy: FallbackToLogsOnError
  volumeMounts:
    {{- include "adscore.commonMounts" . | nindent 4 }}
    - {name: engine-cache, mountPath: /var/cache/adscore}
{{- end }}
{{- end }}

{{/* The common part of a container that only copies; its volume mounts follow. */}}
{{- define "adscore.copying" -}}
{{ include "adscore.containerSecurity" . }}
resources:
  requests: {cpu: 100m, memory: 128Mi}
  limits: {memory: 512Mi}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
{{- end }}
